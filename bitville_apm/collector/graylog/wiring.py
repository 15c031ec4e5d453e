"""Which sender `[graylog]` means, and the service around it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.threads import deferToThreadPool

from bitville_apm.collector.channels import Channel, policy_of
from bitville_apm.collector.config import GraylogSection
from bitville_apm.collector.graylog.alert import GraylogWay
from bitville_apm.collector.graylog.datagrams import DatagramSender
from bitville_apm.collector.graylog.posts import PostSender
from bitville_apm.collector.graylog.sender import Sender
from bitville_apm.collector.graylog.service import Graylog
from bitville_apm.collector.graylog.stream import StreamSender
from bitville_apm.kept import KeptBreaker
from bitville_apm.store.feed import IFeed


def sender_of(section: GraylogSection, reactor: Any) -> Sender:
    """The way that `protocol` names. Raises `OSError`, `SSL.Error` where `ca` cannot be used."""
    address, protocol = section.address, section.protocol
    if protocol == "udp":
        return DatagramSender(address, reactor)
    policy = policy_of(section.ca)
    if protocol in ("http", "https"):
        return PostSender(address, protocol, policy, reactor)
    if protocol == "tls":
        return StreamSender(address, reactor, lambda: policy.creatorForNetloc(address.host.encode(), address.port))
    return StreamSender(address, reactor)


def ways_of(section: GraylogSection, reactor: Any) -> list[Channel]:
    """The ways of alerts that `[graylog]` adds. Raises as `sender_of`."""
    if not section.enabled or not section.spikes:
        return []
    sender_of(section, reactor)  # so that a `ca` that cannot be used is known now
    return [GraylogWay(lambda: sender_of(section, reactor), section.facility)]


def graylog_of(
    section: GraylogSection, feed: IFeed, data: Path, reactor: Any, now: Callable[[], float]
) -> Graylog | None:
    """The service as collector.ini says; None where it is off: then it begins at now when it is switched on.

    Before the first record is stored. `reactor` counts seconds that never jump. Raises as `sender_of`.
    """
    if not section.enabled:
        feed.end()
        return None
    sender = sender_of(section, reactor)
    feed.begin(now())
    run = partial(deferToThreadPool, reactor, reactor.getThreadPool())
    breaker = KeptBreaker("graylog", data / "circuit-breaker-state" / "graylog.state", run, reactor, now)
    return Graylog(section, feed, sender, breaker, run, reactor, now)
