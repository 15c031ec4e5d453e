"""Tells people of spikes: when one begins, and when it is over (ADV-05). Where to is said in collector.ini alone.

Each way tries by itself, some times, and none waits for another. A project that spikes all the time sends so many
alerts an hour; the next one that goes out says how many did not. An alert that the collector does not live to send is
told again by the next one (`spikes`): at least once, and twice where it died just after.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from bitville_apm import limits
from bitville_apm.analysis.report import Report
from bitville_apm.collector.channels import Channel, Command, Mail, NotSent, Webhook, policy_of
from bitville_apm.collector.config import AlertsSection
from bitville_apm.collector.message import Event, Message
from bitville_apm.rates import Rates
from bitville_apm.store.interface import Spike

_log = Logger()


@attrs.define(eq=False)
class Alerts:
    """See the module. `reactor` tells unix time; `base_url` is where the pages are, a proxy's path included."""

    channels: Sequence[Channel]
    base_url: str
    reactor: Any
    rates: Rates
    over: bool = True
    """Whether the end of a spike is told too."""
    threads: ThreadPool = attrs.field(factory=lambda: ThreadPool(0, 1, "bitville-alerts"))
    counted: Counter[tuple[str, str]] = attrs.field(factory=Counter)
    """(channel, sent | failed | dropped) since the start; suppressed ones under the channel \"\"."""
    _suppressed: Counter[str] = attrs.field(factory=Counter)
    _quiet: dict[str, None] = attrs.field(factory=dict)
    """Spikes whose beginning was suppressed: their end is too."""
    _sending: set[Deferred[bool]] = attrs.field(factory=set)
    _said: dict[str, tuple[float, int]] = attrs.field(factory=dict)
    _stopping: bool = False

    @classmethod
    def of(cls, section: AlertsSection, base_url: str, reactor: Any, more: Sequence[Channel] = ()) -> Alerts:
        """As collector.ini says, and `more` ways. Raises `OSError` and OpenSSL's errors where `ca` cannot be used."""
        made = cls((), base_url, reactor, Rates(section.per_hour / 3600, section.per_hour))
        made.over = section.over
        channels: list[Channel] = []
        if section.webhook:
            channels.append(Webhook(section.webhook, reactor, policy_of(section.ca)))
        if section.command:
            channels.append(Command(section.command, section.command_input == "json", reactor, made.threads))
        if section.mail_to:
            mail = Mail(section.mail_server, section.mail_from, section.mail_to, reactor)
            mail.user, mail.password, mail.insecure = section.mail_user, section.mail_password, section.mail_insecure
            if section.ca is not None:
                policy = policy_of(section.ca)
                mail.policy = lambda host: policy.creatorForNetloc(host.encode(), 25)
            channels.append(mail)
        made.channels = [*channels, *more]
        return made

    def start(self) -> None:
        """Be ready to run commands."""
        self.threads.start()
        if self.channels:
            _log.info("alerts go to {ways}", ways=", ".join(channel.name for channel in self.channels))

    async def stop(self) -> None:
        """Give up what is not sent yet; a command that runs is waited for."""
        self._stopping = True
        waiting = list(self._sending)
        for sending in waiting:
            sending.cancel()
        if waiting:
            _log.warn("stopping with {n} alerts not sent", n=len(waiting))
        self.threads.stop()

    def tell(self, event: Event, spike: Spike, report: Report) -> Deferred[bool]:
        """Send an alert of a spike, if it is one of those that are sent. Returns at once.

        Fires with True when each way has sent it or given up, or none is to; with False when we stopped before.
        """
        if self._stopping:
            return succeed(False)
        if not self.channels or (event == "over" and not self.over):
            return succeed(True)
        if event == "over" and spike.id in self._quiet:
            del self._quiet[spike.id]
            self._suppress(spike)
            return succeed(True)
        if event == "open" and self.rates.take(spike.project, self.reactor.seconds()).wait:
            self._quiet[spike.id] = None
            while len(self._quiet) > limits.ALERTS_QUIET:
                del self._quiet[next(iter(self._quiet))]
            self._suppress(spike)
            return succeed(True)
        link = f"{self.base_url.rstrip('/')}/spikes/{spike.id}"
        message = Message(event, spike, report, link, self._suppressed.pop(spike.project, 0))
        sendings = []
        for channel in self.channels:
            if len(self._sending) >= limits.ALERTS_WAITING:
                self.counted[channel.name, "dropped"] += 1
                self._complain(channel.name, "too many alerts wait to be sent; one is dropped")
                continue
            sending = Deferred.fromCoroutine(self._sent(channel, message))
            if not sending.called:
                self._sending.add(sending)
                sending.addBoth(self._done, sending)
            sendings.append(sending)
        return Deferred.fromCoroutine(_all(sendings))

    def state(self) -> dict[str, Any]:
        """For `/ready`: numbers only."""
        return {
            "ways": {
                channel.name: {what: self.counted[channel.name, what] for what in ("sent", "failed", "dropped")}
                for channel in self.channels
            },
            "waiting": len(self._sending),
            "suppressed": self.counted["", "suppressed"],
        }

    def _suppress(self, spike: Spike) -> None:
        self.counted["", "suppressed"] += 1
        self._suppressed[spike.project] += 1
        _log.info("the alert of spike {id} is not sent: too many in an hour", id=spike.id)

    async def _sent(self, channel: Channel, message: Message) -> bool:
        """Try until it is sent, some times; False when we stopped meanwhile."""
        for wait in limits.ALERT_WAITS_S:
            if wait:
                await deferLater(getattr(self.reactor, "steady", self.reactor), wait)
            try:
                await channel.send(message)
            except Exception as error:  # noqa: BLE001 - whatever it is, there is another try, or there was the last
                if self._stopping:
                    return False
                self._complain(channel.name, reason_of(error))
            else:
                self.counted[channel.name, "sent"] += 1
                _log.info("alert of spike {id} sent by {way}", id=message.spike.id, way=channel.name)
                return True
        self.counted[channel.name, "failed"] += 1
        _log.error("the alert of spike {id} could not be sent by {way}", id=message.spike.id, way=channel.name)
        return True

    def _done(self, result: object, sending: Deferred[bool]) -> bool:
        self._sending.discard(sending)
        return result is True

    def _complain(self, way: str, why: str) -> None:
        """Log a failure, of one way at most once a minute."""
        steady = getattr(self.reactor, "steady", self.reactor).seconds()
        last, unsaid = self._said.get(way, (float("-inf"), 0))
        if steady - last < limits.REPEATED_S:
            self._said[way] = last, unsaid + 1
            return
        self._said[way] = steady, 0
        more = f" ({unsaid} more since the last time)" if unsaid else ""
        _log.warn("an alert was not sent by {way}: {why}{more}", way=way, why=why, more=more)


async def _all(sendings: Sequence[Deferred[bool]]) -> bool:
    """Whether all came to an end by themselves. Waits for every one."""
    return all([await sending for sending in sendings])


def reason_of(error: BaseException) -> str:
    """What went wrong, without addresses: those of webhooks are secrets."""
    reasons = getattr(error, "reasons", None)
    if reasons:
        return reason_of(reasons[-1].value)
    return str(error) if isinstance(error, NotSent) else type(error).__name__
