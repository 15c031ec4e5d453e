"""Which alerts are sent, how often each is tried, and how `[alerts]` is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from bitville_apm import limits
from bitville_apm.collector.alerts import Alerts
from bitville_apm.collector.channels import NotSent
from bitville_apm.collector.config import AlertsSection, read_collector
from bitville_apm.collector.message import Message
from bitville_apm.ini import ConfigError
from bitville_apm.rates import Rates
from tests.web.made import NOW
from tests.web.reports import full_report, kept_spike


@attrs.define(eq=False)
class Told:
    """A way that fails as often as it is told to."""

    failures: int = 0
    name: str = "told"
    messages: list[Message] = attrs.field(factory=list)
    tries: int = 0

    async def send(self, message: Message) -> None:
        self.tries += 1
        if self.failures:
            self.failures -= 1
            raise NotSent("not now")
        self.messages.append(message)


class AlertsTests(SynchronousTestCase):
    """Which alerts are sent, and how often each is tried."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)

    def alerts(self, *ways: Told, per_hour: int = 2, **more: Any) -> Alerts:
        return Alerts(ways, "https://apm.example/apm/", self.clock, Rates(per_hour / 3600, per_hour), **more)

    def tell(self, alerts: Alerts, event: Any, id: str, project: str = "shop") -> Deferred[bool]:
        return alerts.tell(event, kept_spike(id, project), full_report())

    def test_a_link_has_the_proxys_path(self) -> None:
        """LIST-08: the link goes to the page of the spike, below the path of a proxy."""
        way = Told()
        self.tell(self.alerts(way), "open", "a")
        assert way.messages[0].link == "https://apm.example/apm/spikes/a"

    def test_so_many_an_hour(self) -> None:
        """ADV-05: of a project that spikes all the time a few are told, beginning and end; the next one says how many
        were not; another project's are.
        """
        way = Told()
        alerts = self.alerts(way)
        for n in range(5):
            self.tell(alerts, "open", f"{n}")
            self.tell(alerts, "over", f"{n}")
        self.tell(alerts, "open", "x", "blog")
        sent = [(m.event, m.spike.id, m.suppressed) for m in way.messages]
        assert sent == [("open", "0", 0), ("over", "0", 0), ("open", "1", 0), ("over", "1", 0), ("open", "x", 0)]
        assert alerts.state()["suppressed"] == 6
        self.clock.advance(1800)
        self.tell(alerts, "open", "later")
        assert way.messages[-1].suppressed == 6
        self.tell(alerts, "over", "later")
        assert way.messages[-1].suppressed == 0

    def test_the_end_can_be_left_out(self) -> None:
        """ADV-05: `over = no` tells beginnings only."""
        way = Told()
        alerts = self.alerts(way, over=False)
        self.tell(alerts, "open", "a")
        self.tell(alerts, "over", "a")
        assert [m.event for m in way.messages] == ["open"]

    def test_tried_some_times(self) -> None:
        """ADV-05: what fails is tried again within minutes, each way by itself, and given up in the end; counted."""
        twice, always, fine = Told(2, "twice"), Told(99, "always"), Told(0, "fine")
        alerts = self.alerts(twice, always, fine)
        self.tell(alerts, "open", "a")
        assert (len(fine.messages), twice.tries, alerts.state()["waiting"]) == (1, 1, 2)
        for wait in limits.ALERT_WAITS_S[1:]:
            self.clock.advance(wait)
        assert (len(twice.messages), twice.tries, always.tries) == (1, 3, len(limits.ALERT_WAITS_S))
        self.clock.advance(10_000)
        assert always.tries == len(limits.ALERT_WAITS_S)
        ways = alerts.state()["ways"]
        assert ways["fine"] == ways["twice"] == {"sent": 1, "failed": 0, "dropped": 0}
        assert ways["always"] == {"sent": 0, "failed": 1, "dropped": 0}
        assert alerts.state()["waiting"] == 0

    def test_when_an_alert_is_done_with(self) -> None:
        """ADV-05: it is when each way has sent it or given up, or it is not to be sent; not when the collector stops
        before: then the next one tells it.
        """
        way, slow = Told(), Told(1)
        alerts = self.alerts(way, slow, per_hour=3)
        done = self.tell(alerts, "open", "a")
        self.assertNoResult(done)
        self.clock.advance(limits.ALERT_WAITS_S[1])
        assert self.successResultOf(done) is True
        slow.failures = 99
        failing = self.tell(alerts, "open", "b")
        for wait in limits.ALERT_WAITS_S[1:]:
            self.assertNoResult(failing)
            self.clock.advance(wait)
        assert self.successResultOf(failing) is True
        stopped = self.tell(alerts, "open", "c")
        assert self.successResultOf(self.tell(alerts, "open", "d")) is True, "too many in an hour"
        assert self.successResultOf(self.tell(self.alerts(way, over=False), "over", "e")) is True
        assert self.successResultOf(self.tell(self.alerts(), "open", "f")) is True
        self.successResultOf(Deferred.fromCoroutine(alerts.stop()))
        assert self.successResultOf(stopped) is False
        assert self.successResultOf(self.tell(alerts, "open", "g")) is False

    def test_not_too_many_wait(self) -> None:
        """Alerts that cannot be sent do not pile up: beyond a bound they are dropped and counted."""
        self.patch(limits, "ALERTS_WAITING", 3)
        alerts = self.alerts(Told(10**6), per_hour=100)
        for n in range(5):
            self.tell(alerts, "open", f"{n}")
        assert alerts.state()["ways"]["told"]["dropped"] == 2
        assert alerts.state()["waiting"] == 3

    def test_complaints_are_few_and_hold_no_secret(self) -> None:
        """DAEMON-14: failures of one way are logged once a minute with their number, without the address, which may be
        a secret.
        """
        said: list[Any] = []
        globalLogPublisher.addObserver(said.append)
        self.addCleanup(globalLogPublisher.removeObserver, said.append)
        alerts = self.alerts(Told(10**6), per_hour=100)
        for n in range(4):
            self.tell(alerts, "open", f"{n}")
        self.clock.advance(5)
        warned = [formatEvent(event) for event in said if event["log_level"].name == "warn"]
        assert warned == ["an alert was not sent by told: not now"]
        self.clock.advance(120)
        warned = [formatEvent(event) for event in said if event["log_level"].name == "warn"]
        assert warned[1:] == ["an alert was not sent by told: not now (7 more since the last time)"]

    def test_as_the_file_says(self) -> None:
        """ADV-05: `[alerts]` names the ways; nothing set is nobody told."""
        section = AlertsSection(
            webhook="https://chat.example/hook", command=("/bin/true",), mail_to=("ops@x.example",), per_hour=3
        )
        alerts = Alerts.of(section, "http://127.0.0.1:8443", self.clock)
        assert [way.name for way in alerts.channels] == ["webhook", "command", "mail"]
        assert alerts.rates.burst == 3
        assert Alerts.of(AlertsSection(), "", self.clock).channels == []
        assert "chat.example" not in repr(alerts)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("webhook = http://chat.example/x", "plain http"), ("webhook = ftp://x", "a URL is wanted"),
        ("command = mail ops", "absolute path"), ("command = /bin/sh 'x", "quotation"),
        ("mail_to = ops", "ops@example"), ("mail_to = a@x.example, b", "ops@example"),
        ("mail_user = me", "without mail_password"), ("per_hour = 0", "1 or"),
        ("base_url = apm.example", "address of the pages"), ("mail_from = Me <a@b>", "ops@example"),
        ("to = x", "no key 'to'"),
    ],
)  # fmt: skip
def test_wrong_settings(text: str, why: str) -> None:
    """CFG-06: a wrong setting is one line that says what is wanted; a secret is not shown in it."""
    path = Path("collector.ini").absolute()
    path.write_text(f"[alerts]\n{text}\n")
    path.chmod(0o640)
    with pytest.raises(ConfigError) as caught:
        read_collector(path, {})
    assert why in str(caught.value)
    assert "chat.example" not in str(caught.value)


def test_the_settings() -> None:
    """CFG-06, DAEMON-16: each way's settings; secrets also from a file."""
    Path("hook").write_text("https://chat.example/T0/B0/secret/\n")
    path = Path("collector.ini").absolute()
    path.write_text("[alerts]\ncommand = /opt/page 'a b' c\nmail_to = a@x.example, b@y.example\nmail_server = mx:25\n")
    path.chmod(0o640)
    read = read_collector(path, {"BITVILLE_ALERTS_WEBHOOK_FILE": "hook"}).alerts
    assert read.webhook == "https://chat.example/T0/B0/secret/"
    assert read.command == ("/opt/page", "a b", "c")
    assert read.mail_to == ("a@x.example", "b@y.example")
    assert (read.per_hour, read.over, read.mail_server.host) == (limits.ALERTS_PER_HOUR, True, "mx")
