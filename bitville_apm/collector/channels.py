"""The ways an alert takes: a webhook, a command, a mail. Each sends one message or fails, within its time."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import attrs
import treq
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from twisted.internet.threads import deferToThreadPool
from twisted.mail.smtp import ESMTPSenderFactory, SMTPSenderFactory
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS
from twisted.web.http_headers import Headers

from bitville_apm import __version__, limits
from bitville_apm.collector.message import Message
from bitville_apm.ini import Address


class NotSent(Exception):
    """Why an alert did not get out: a few words without a secret."""


class Channel(Protocol):
    """One way."""

    name: str

    async def send(self, message: Message) -> None:
        """Send it. Raises `NotSent`, or whatever the network does."""


def policy_of(ca: Path | None) -> BrowserLikePolicyForHTTPS:
    """Whose certificates are believed: the system's, or those in a PEM file. Raises `OSError`, `SSL.Error`."""
    if ca is None:
        return BrowserLikePolicyForHTTPS()
    marker = b"-----END CERTIFICATE-----"
    parts = [part + marker for part in ca.read_bytes().split(marker)[:-1]]
    if not parts:
        raise OSError(errno.EINVAL, "there is no certificate in it (PEM)", str(ca))
    return BrowserLikePolicyForHTTPS(trustRootFromCertificates([Certificate.loadPEM(part) for part in parts]))


@attrs.define(eq=False)
class Webhook:
    """A POST of the message as JSON; anything but a 2xx is a failure, a redirect too."""

    url: str = attrs.field(repr=False)
    reactor: Any
    policy: BrowserLikePolicyForHTTPS
    name: str = "webhook"

    async def send(self, message: Message) -> None:
        """See `Channel`."""
        agent = Agent(self.reactor, self.policy, connectTimeout=limits.ALERT_CONNECT_S)
        client = treq.client.HTTPClient(agent)
        headers = Headers({"Content-Type": ["application/json"], "User-Agent": [f"bitville-apm/{__version__}"]})

        async def posted() -> int:
            response = await client.post(
                self.url, data=message.json(), headers=headers, allow_redirects=False, unbuffered=True
            )
            await treq.collect(response, lambda data: None)
            return int(response.code)

        status = await _within(limits.ALERT_S, posted(), self.reactor)
        if not 200 <= status < 300:
            raise NotSent(f"it answered {status}")


@attrs.define(eq=False)
class Command:
    """A program with its arguments, no shell. The report is its standard input: Markdown, or JSON with `as_json`.

    What it prints goes where the collector's own messages go. It gets none of the collector's environment but PATH.
    """

    argv: Sequence[str]
    as_json: bool
    reactor: Any
    threads: ThreadPool
    name: str = "command"

    async def send(self, message: Message) -> None:
        """See `Channel`."""
        given = message.json() if self.as_json else message.markdown().encode()
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "BITVILLE_EVENT": message.event,
            "BITVILLE_SUBJECT": message.subject,
            "BITVILLE_PROJECT": message.spike.project,
            "BITVILLE_SPIKE": message.spike.id,
            "BITVILLE_LINK": message.link,
        }
        await deferToThreadPool(self.reactor, self.threads, _run, list(self.argv), given, environment)


def _run(argv: list[str], given: bytes, environment: dict[str, str]) -> None:
    """In a thread: run it to its end, or kill it and what it has started. Raises `NotSent`."""
    try:
        # The command is collector.ini's alone, and no shell reads it.
        process = subprocess.Popen(  # noqa: S603
            argv, stdin=subprocess.PIPE, env=environment, cwd="/", start_new_session=True
        )
    except OSError as error:
        raise NotSent(f"{argv[0]}: {error.strerror}") from None
    try:
        process.communicate(given, timeout=limits.ALERT_COMMAND_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise NotSent(f"{argv[0]} took longer than {limits.ALERT_COMMAND_S:g} s and was killed") from None
    if process.returncode:
        raise NotSent(f"{argv[0]} ended with {process.returncode}")


@attrs.define(eq=False)
class Mail:
    """A mail by SMTP: to this machine's own server as it is, to another one by STARTTLS unless `insecure`."""

    server: Address
    sender: str
    to: Sequence[str]
    reactor: Any
    user: str = ""
    password: str = attrs.field(default="", repr=False)
    insecure: bool = False
    policy: Any = None
    """Makes the TLS options for a host's name; None for the system's."""
    name: str = "mail"

    async def send(self, message: Message) -> None:
        """See `Channel`."""
        file = BytesIO(message.mail(self.sender, list(self.to), self.reactor.seconds()))
        sent: Deferred[Any] = Deferred()
        options: dict[str, Any] = {"retries": 0, "timeout": limits.ALERT_S}
        factory: Any
        if self.server.is_loopback or self.insecure:
            if self.user:
                factory = ESMTPSenderFactory(
                    self.user.encode(), self.password.encode(), self.sender, list(self.to), file, sent,
                    requireTransportSecurity=False, heloFallback=True, **options,
                )  # fmt: skip
            else:
                factory = SMTPSenderFactory(self.sender, list(self.to), file, sent, **options)
        else:
            context = (self.policy or optionsForClientTLS)(self.server.host)
            factory = ESMTPSenderFactory(
                self.user.encode() or None, self.password.encode() or None, self.sender, list(self.to), file, sent,
                contextFactory=context, requireAuthentication=bool(self.user), requireTransportSecurity=True,
                hostname=self.server.host, **options,
            )  # fmt: skip
        factory.noisy = False

        async def mailed() -> None:
            endpoint = HostnameEndpoint(
                self.reactor, self.server.host.encode(), self.server.port, timeout=limits.ALERT_CONNECT_S
            )
            protocol: Any = await endpoint.connect(factory)
            try:
                await sent
            finally:
                if protocol.transport is not None:
                    protocol.transport.loseConnection()

        await _within(limits.ALERT_S, mailed(), self.reactor)


async def _within(seconds: float, work: Any, reactor: Any) -> Any:
    """The result of some work, given up after so many seconds. Raises `NotSent` then."""
    doing = Deferred.fromCoroutine(work)
    late = NotSent(f"no answer within {seconds:g} s")
    doing.addTimeout(seconds, getattr(reactor, "steady", reactor), onTimeoutCancel=lambda *_: Failure(late))
    return await doing
