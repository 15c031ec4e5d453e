"""Graylog as a way of alerts: a message when a spike begins, and one when it is over (ADV-05)."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from bitville_apm.collector import channels
from bitville_apm.collector.graylog import gelf
from bitville_apm.collector.graylog.sender import NotSent, Sender
from bitville_apm.collector.message import Message


@attrs.define(eq=False)
class GraylogWay:
    """A connection of its own for each alert: records that wait in front of it would hold it up."""

    sender: Callable[[], Sender]
    facility: str
    name: str = "graylog"

    async def send(self, message: Message) -> None:
        """See `channels.Channel`."""
        sender = self.sender()
        try:
            await sender.send([gelf.encoded(gelf.of_spike(message, self.facility))])
        except NotSent as why:
            raise channels.NotSent(str(why)) from None
        finally:
            await sender.close()
