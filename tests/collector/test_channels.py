"""Each way an alert can be sent: a real HTTP server, a real command and a real SMTP server."""

from __future__ import annotations

import email
import email.policy
import json
import os
import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor as real_reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import ServerFactory
from twisted.internet.ssl import DefaultOpenSSLContextFactory
from twisted.mail import smtp
from twisted.python.threadpool import ThreadPool
from twisted.trial.unittest import TestCase
from twisted.web.client import BrowserLikePolicyForHTTPS
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site
from zope.interface import implementer

from bitville_apm import limits
from bitville_apm.collector.channels import Command, Mail, Webhook, policy_of
from bitville_apm.collector.message import Message
from bitville_apm.ini import Address
from tests.agent.certificate import certified
from tests.collector.rig import free_port
from tests.web.made import NOW
from tests.web.reports import full_report, kept_spike

reactor: Any = real_reactor


def message(event: Any = "open", **more: Any) -> Message:
    return Message(event, kept_spike(), full_report(), "https://apm.example/spikes/7", **more)


def text_of(name: str) -> str:
    return Path(name).read_text()


def is_gone(pid: int) -> bool:
    """Whether a process ends within some seconds; one that nobody has waited for yet has ended too."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            if "State:\tZ" in text_of(f"/proc/{pid}/status"):
                return True
        except OSError:
            return True
        time.sleep(0.01)
    return False


class Hook(Resource):
    """Answers with a status, or never; keeps what it was sent."""

    isLeaf = True

    def __init__(self, *statuses: int | None) -> None:
        super().__init__()
        self.statuses = list(statuses)
        self.taken: list[dict[str, Any]] = []

    def render_POST(self, request: Any) -> Any:
        assert request.getHeader(b"content-type") == b"application/json"
        self.taken.append(json.loads(request.content.read()))
        status = self.statuses.pop(0) if self.statuses else 200
        if status is None:
            return NOT_DONE_YET
        request.setResponseCode(status)
        if status == 302:
            request.setHeader(b"Location", b"/elsewhere")
        return b"ok"

    def render_GET(self, request: Any) -> bytes:
        raise AssertionError("a redirect was followed")


@implementer(smtp.IMessage)
class Received:
    """One mail on its way in."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.lines: list[bytes] = []

    def lineReceived(self, line: bytes) -> None:
        self.lines.append(line)

    def eomReceived(self) -> Deferred[None]:
        parsed = email.message_from_bytes(b"\n".join(self.lines), policy=email.policy.default)
        self.sink.mails.append(parsed)
        return succeed(None)

    def connectionLost(self) -> None:
        self.lines = []


@implementer(smtp.IMessageDelivery)
class Sink(ServerFactory):
    """A mail server that keeps everything, or refuses everybody."""

    def __init__(self, context: Any = None, refuses: bool = False) -> None:
        self.context = context
        self.refuses = refuses
        self.mails: list[Any] = []
        self.recipients: list[str] = []
        self.secure: list[bool] = []

    def buildProtocol(self, address: Any) -> Any:
        protocol = smtp.ESMTP(contextFactory=self.context)
        protocol.delivery = self
        protocol.host = b"sink"
        self.protocol = protocol
        return protocol

    def receivedHeader(self, helo: Any, origin: Any, recipients: Any) -> bytes:
        return b"Received: sink"

    def validateFrom(self, helo: Any, origin: Any) -> Any:
        if self.refuses:
            raise smtp.SMTPBadSender(origin)
        return origin

    def validateTo(self, user: Any) -> Any:
        self.recipients.append(str(user))
        self.secure.append(bool(self.protocol.startedTLS))
        return lambda: Received(self)


class ChannelTests(TestCase):
    """Each way by itself."""

    def listening(self, factory: Any, where: str = "127.0.0.1") -> int:
        port = reactor.listenTCP(0, factory, interface=where)
        self.addCleanup(port.stopListening)
        return int(port.getHost().port)

    def hook(self, *statuses: int | None) -> tuple[Hook, Webhook]:
        hook = Hook(*statuses)
        url = f"http://127.0.0.1:{self.listening(Site(hook))}/secret/path/"
        return hook, Webhook(url, reactor, BrowserLikePolicyForHTTPS())

    async def fails(self, work: Any) -> str:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - the test says which
            return f"{type(error).__name__}: {error}"
        self.fail("it did not fail")

    async def test_webhook(self) -> None:
        """ADV-05: a webhook gets the report as JSON, with a text that chats show, and a link."""
        hook, way = self.hook()
        await way.send(message(suppressed=2))
        (taken,) = hook.taken
        assert (taken["event"], taken["link"]) == ("open", "https://apm.example/spikes/7")
        assert taken["text"].splitlines() == [
            "Load spike on web1, web2 (shop): from 2.10 to 31.4",
            "GET /search: 3 times the requests, on web1 and web2 <b>",
            "since 2026-09-21 14:03:20 UTC",
            "https://apm.example/spikes/7",
            "2 earlier alerts of this project were not sent: too many in an hour",
        ]
        assert taken["spike"]["causes"][0]["mechanism"] == "traffic"
        assert taken["spike"]["id"] == kept_spike().id

    async def test_a_webhook_that_does_not_take_it(self) -> None:
        """ADV-05: an error is a failure, and so is a redirect, which is not followed; who never answers is given up."""
        self.patch(limits, "ALERT_S", 0.3)
        _, way = self.hook(500, 302, None)
        assert await self.fails(way.send(message())) == "NotSent: it answered 500"
        assert await self.fails(way.send(message())) == "NotSent: it answered 302"
        assert await self.fails(way.send(message())) == "NotSent: no answer within 0.3 s"

    async def test_a_webhooks_certificate_counts(self) -> None:
        """ADV-05: a certificate that nobody vouches for is refused; with `ca` it is taken."""
        certified(Path("tls"))
        hook = Hook()
        context = DefaultOpenSSLContextFactory("tls/both.pem", "tls/both.pem")
        port = reactor.listenSSL(0, Site(hook), context, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        url = f"https://127.0.0.1:{port.getHost().port}/"
        stranger = Webhook(url, reactor, BrowserLikePolicyForHTTPS())
        assert "certificate verify failed" in await self.fails(stranger.send(message()))
        assert hook.taken == []
        await Webhook(url, reactor, policy_of(Path("tls/both.pem"))).send(message())
        assert len(hook.taken) == 1

    def command(self, script: str, as_json: bool = False) -> Command:
        threads = ThreadPool(0, 1, "test-commands")
        threads.start()
        self.addCleanup(threads.stop)
        return Command(["/bin/sh", "-c", script, "$HOME;touch injected"], as_json, reactor, threads)

    async def test_command(self) -> None:
        """ADV-05: a command gets the report on its standard input and a few words in its environment, none of the
        collector's own; no shell reads its arguments.
        """
        self.patch(os, "environ", {**os.environ, "BITVILLE_API_KEY_SHOP": "secret"})
        here = os.getcwd()
        await self.command(f'cd {here}; cat > report; env > environment; echo "$0" > name').send(message())
        assert text_of("report") == message().markdown()
        assert text_of("name") == "$HOME;touch injected\n"
        told = dict(line.split("=", 1) for line in text_of("environment").splitlines())
        own = {name: value for name, value in told.items() if name.startswith("BITVILLE_")}
        assert own == {
            "BITVILLE_EVENT": "open", "BITVILLE_PROJECT": "shop", "BITVILLE_SPIKE": kept_spike().id,
            "BITVILLE_LINK": "https://apm.example/spikes/7", "BITVILLE_SUBJECT": message().subject,
        }  # fmt: skip
        await self.command(f"cat > {here}/report", as_json=True).send(message())
        assert json.loads(text_of("report"))["event"] == "open"

    async def test_a_command_that_does_not_work(self) -> None:
        """ADV-05: a command that fails, is not there or hangs is a failure; what hangs is killed with its children."""
        self.patch(limits, "ALERT_COMMAND_S", 0.5)
        assert await self.fails(self.command("exit 3").send(message())) == "NotSent: /bin/sh ended with 3"
        way = self.command("")
        way.argv = ["/no/such"]
        assert await self.fails(way.send(message())) == "NotSent: /no/such: No such file or directory"
        mark = f"{os.getcwd()}/children"
        hung = await self.fails(self.command(f"sleep 60 & echo $! > {mark}; wait").send(message()))
        assert hung == "NotSent: /bin/sh took longer than 0.5 s and was killed"
        assert is_gone(int(text_of("children")))

    async def test_mail(self) -> None:
        """ADV-05: a mail has the text and the report; the end of a spike is an answer to its beginning."""
        sink = Sink()
        server = Address("127.0.0.1", self.listening(sink))
        way = Mail(server, "apm@shop.example", ["a@x.example", "b@x.example"], Wall())
        await way.send(message())
        await way.send(message("over"))
        first, second = sink.mails[::2]  # one for each of two
        assert first["Subject"] == "Load spike on web1, web2 (shop): from 2.10 to 31.4"
        assert second["Subject"] == "Over after 3 m 00 s: Load spike on web1, web2 (shop): from 2.10 to 31.4"
        assert (first["To"], first["From"]) == ("a@x.example, b@x.example", "apm@shop.example")
        assert sink.recipients == ["a@x.example", "b@x.example"] * 2
        assert second["In-Reply-To"] == first["Message-ID"] != second["Message-ID"]
        body = first.get_content()
        assert "https://apm.example/spikes/7" in body
        assert "## Cause 1: traffic" in body

    async def test_a_mail_server_that_refuses(self) -> None:
        """ADV-05: a refused mail is a failure, and so is a server that is not there."""
        way = Mail(Address("127.0.0.1", self.listening(Sink(refuses=True))), "apm@x.example", ["a@x.example"], Wall())
        assert "SMTP" in await self.fails(way.send(message()))
        way.server = Address("127.0.0.1", free_port())
        assert "Refused" in await self.fails(way.send(message()))

    async def test_another_machines_mail_server_speaks_tls(self) -> None:
        """ADV-05: a mail to another machine goes by TLS with a certificate that counts, or not at all."""
        certified(Path("tls"))
        self.patch(limits, "ALERT_S", 1.0)
        context = DefaultOpenSSLContextFactory("tls/both.pem", "tls/both.pem")
        policy = policy_of(Path("tls/both.pem"))
        plain, secure = Sink(), Sink(context)
        for sink, ours, sent in ((plain, policy, 0), (secure, None, 0), (secure, policy, 1)):
            server = Elsewhere("127.0.0.1", self.listening(sink))
            way = Mail(server, "apm@x.example", ["a@x.example"], Wall())
            way.policy = None if ours is None else (lambda host: policy.creatorForNetloc(host.encode(), 25))
            if sent:
                await way.send(message())
            else:
                await self.fails(way.send(message()))
            assert len(sink.mails) == sent
        assert secure.secure == [True]
        way = Mail(
            Elsewhere("127.0.0.1", self.listening(plain)), "apm@x.example", ["a@x.example"], Wall(), insecure=True
        )
        await way.send(message())
        assert len(plain.mails) == 1


class Elsewhere(Address):
    """An address that is taken for another machine's."""

    is_loopback = False


class Wall:
    """The reactor, telling the time that the report is of."""

    steady = reactor

    def seconds(self) -> float:
        return NOW

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)
