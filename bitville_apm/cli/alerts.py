"""`bitville alerts test`: an alert by every way that collector.ini names, so that nobody finds out at night."""

from __future__ import annotations

import argparse
import json
from typing import Any

import msgspec
from twisted.internet import task
from twisted.internet.defer import Deferred

from bitville_apm.analysis.report import Quality, Report
from bitville_apm.cli import inis, keyring
from bitville_apm.clock import WallClock
from bitville_apm.collector.alerts import Alerts, reason_of
from bitville_apm.collector.config import CollectorConfig
from bitville_apm.collector.graylog.wiring import ways_of
from bitville_apm.collector.message import Message
from bitville_apm.ini import ConfigError
from bitville_apm.store.interface import Spike

VERDICT = "This is a test of alerts; nothing has happened"


def add_to(commands: Any) -> None:
    """The command and its action."""
    alerts = commands.add_parser("alerts", help="try who would be told of a load spike")
    actions = alerts.add_subparsers(metavar="ACTION", required=True)
    test = actions.add_parser(
        "test",
        help="send a test by every way that [alerts] names, and to Graylog",
        description="Sends one alert by every way that [alerts] in collector.ini names, and to Graylog where [graylog] "
        "is on, now and without another try, and says what became of each. Exit code 0 when all were sent.",
    )
    inis.add_options(test, "collector.ini")
    test.set_defaults(run=_test)


def _test(given: argparse.Namespace) -> int:
    settings = inis.collector(given)
    told: dict[str, str | None] = {}
    try:
        task.react(lambda reactor: Deferred.fromCoroutine(_sent(settings, reactor, told)))
    except SystemExit as done:
        if done.code:
            raise
    if not told:
        raise ConfigError(
            given.config or inis.ETC / "collector.ini",
            "[alerts] names nobody: set webhook, command or mail_to (or [graylog])",
        )
    if given.json:
        print(json.dumps(told, indent=2))
    else:
        for way, why in told.items():
            print(f"{way}: {'sent' if why is None else f'not sent: {why}'}")
    return 1 if any(told.values()) else 0


async def _sent(settings: CollectorConfig, reactor: Any, told: dict[str, str | None]) -> None:
    """Send, and note what became of each way: None, or why it was not sent."""
    try:
        ways = ways_of(settings.graylog, reactor)
        base_url = settings.alerts.base_url or settings.collector.base_url
        alerts = Alerts.of(settings.alerts, base_url, WallClock(reactor), ways)
    except Exception as error:  # noqa: BLE001 - OpenSSL has its own kinds
        told["ca"] = reason_of(error)
        return
    alerts.threads.start()
    try:
        for channel in alerts.channels:
            try:
                await channel.send(message(alerts.base_url, keyring.now()))
                told[channel.name] = None
            except Exception as error:  # noqa: BLE001 - whatever the network does is told
                told[channel.name] = reason_of(error)
    finally:
        alerts.threads.stop()


def message(base_url: str, now: float) -> Message:
    """An alert that says what it is."""
    report = Report(
        verdict=VERDICT, kind="none", provisional=False, coverage=0.0, unexplained=0.0, measure="tasks", onset=now,
        opened=now, peak=now, end=now, level=0.0, baseline=0.0, causes=[], quality=Quality(frames=0, baseline_frames=0),
    )  # fmt: skip
    spike = Spike(
        id="test", project="test", hosts=["test"], opened=now, onset=now, peak=now, end=now, measure="tasks", level=0.0,
        baseline=0.0, kind="none", verdict=VERDICT, provisional=False, signature="", revision=1,
        report=msgspec.json.encode(report),
    )  # fmt: skip
    return Message("open", spike, report, f"{base_url.rstrip('/')}/spikes")
