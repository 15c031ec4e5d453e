"""The status page of a php-fpm pool, asked for over FastCGI every few seconds (`[php] fpm_status`).

A pool whose children are all busy is invisible to requests: those that wait in its queue have not begun. So its busy
children, how many it may have and its queue go into the `load` of frames.

    ask ──▶ waiting ──answer──▶ numbers
              └─ no answer for 2 s: all children are busy, or it hangs; said, and told as busy, until it answers

The question takes the pool's own way and waits in its queue with the others, unless the pool has `pm.status_listen`
(PHP 8.0): hence one question at a time, and its own child is taken off the busy ones. An unanswered question is in the
queue itself, so that at least one is known to wait there.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Any

import attrs
import msgspec
from msgspec import Struct, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from bitville_apm import fastcgi, limits
from bitville_apm.agent.config import FpmStatus
from bitville_apm.interfaces import IRollup, ISource
from bitville_apm.repeated import Repeated

_log = Logger()


class Page(Struct, frozen=True):
    """What the status page says; FPM's words."""

    pool: str
    manager: str = field(name="process manager", default="")
    accepted: int = field(name="accepted conn", default=0)
    queue: int = field(name="listen queue", default=0)
    active: int = field(name="active processes", default=0)
    total: int = field(name="total processes", default=0)
    reached: int = field(name="max children reached", default=0)


class NoStatus(Exception):
    """Why there is no status, in one line that says what to do."""


def read(answer: fastcgi.Answer, path: str) -> Page:
    """The page, of a whole answer. Raises `NoStatus`."""
    if answer.status != 200:
        raise NoStatus(f"answers {answer.status}; its pool needs pm.status_path = {path}")
    try:
        return msgspec.json.decode(answer.body, type=Page)
    except msgspec.MsgspecError:
        raise NoStatus(f"{path} is a page of something else; set pm.status_path = {path} in the pool") from None


@attrs.define
class Pool:
    """What is known of one pool by now. `most` is how many children it may have, None where nobody says.

    The page does not tell `pm.max_children`. Of a static pool it is the number there is; of others it is known from
    the moment they reach it, or from agent.ini. A pool that lets requests wait for seconds makes no more children.
    """

    name: str = ""
    most: int | None = None
    busy: int = 0
    total: int = 0
    queue: int = 0
    _reached: int | None = None
    _accepted: int | None = None
    _apart: bool = False

    def told(self, page: Page) -> None:
        """An answer came."""
        self.name, self.total, self.queue = page.pool, page.total, page.queue
        reached = self._reached is not None and page.reached > self._reached
        if page.manager == "static" or reached or (page.reached and page.queue and page.active >= page.total):
            self.most = max(self.most or 0, page.total)
        # A question that FPM did not count, as a connection or as a busy child, was answered by a process apart.
        self._apart = self._apart or page.accepted == self._accepted or page.active == 0
        self._reached, self._accepted = page.reached, page.accepted
        self.busy = page.active if self._apart else max(0, page.active - 1)

    def numbers(self, unanswered: bool) -> dict[str, float]:
        """For the frame."""
        told: dict[str, float] = {"busy": self.busy, "total": self.total, "listen_queue": self.queue}
        if unanswered:
            told.update(busy=self.total, max=self.total, listen_queue=max(1, self.queue))
        if self.most is not None:
            told["max"] = self.most
        return told


class _Question(Protocol):
    """One connection that asks and reads the answer."""

    def __init__(self, path: str, done: Deferred[Page]) -> None:
        self._path, self._done = path, done
        self._answer, self._bytes = fastcgi.Answer(), 0
        # Whoever gives the question up is rid of its connection, too.
        done.addBoth(self._over)

    def _over(self, result: Any) -> Any:
        if self.transport is not None:
            self.transport.abortConnection()  # type: ignore[attr-defined]
        return result

    def connectionMade(self) -> None:
        """Ask."""
        if self._done.called:
            self.transport.abortConnection()  # type: ignore[union-attr]
            return
        params = {
            "REQUEST_METHOD": "GET",
            "SCRIPT_NAME": self._path,
            "SCRIPT_FILENAME": self._path,
            "REQUEST_URI": f"{self._path}?json",
            "QUERY_STRING": "json",
            "SERVER_PROTOCOL": "HTTP/1.1",
        }
        self.transport.write(fastcgi.request(params))  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        """Some of the answer."""
        self._bytes += len(data)
        try:
            if self._bytes > limits.FPM_ANSWER_BYTES:
                raise NoStatus("answers more than a status page has")
            self._answer.feed(data)
            if self._answer.finished:
                self._end(read(self._answer, self._path))
        except (fastcgi.FastCgiError, NoStatus, ValueError) as error:
            self._end(error if isinstance(error, NoStatus) else NoStatus(f"speaks no FastCGI: {error}"))

    def connectionLost(self, reason: Any = None) -> None:
        """No more will come."""
        self._end(NoStatus("closed the connection without an answer"))

    def _end(self, result: Page | NoStatus) -> None:
        if not self._done.called:
            if isinstance(result, Page):
                self._done.callback(result)
            else:
                self._done.errback(result)


@implementer(ISource)
@attrs.define(eq=False)
class FpmSource:
    """One pool. `now` is unix seconds, `reactor` monotonic; `rollup` is that of the section's pipeline."""

    name: str
    status: FpmStatus
    rollup: IRollup
    reactor: Any
    now: Callable[[], float]
    pool: Pool = attrs.field(init=False)
    asked: int = 0
    answered: int = 0
    why: str = ""
    _since: float | None = None
    _question: Deferred[Page] | None = None
    _loop: LoopingCall | None = None
    _repeated: Repeated = attrs.Factory(Repeated)

    def __attrs_post_init__(self) -> None:
        self.pool = Pool(most=self.status.most)

    def start(self) -> None:
        """Begin to ask."""
        self._loop = LoopingCall(self.tick)
        clock: IReactorTime = self.reactor
        self._loop.clock = clock
        self._loop.start(limits.FPM_ASK_S, now=True)

    def stop(self) -> Deferred[None]:
        """Ask no more."""
        if self._loop is not None and self._loop.running:
            self._loop.stop()
        self._loop = None
        self._give_up()
        return succeed(None)

    def health(self) -> dict[str, Any]:
        """Numbers for `/health`."""
        status = {"status": "degraded", "why": self.why} if self.why else {"status": "ok"}
        told = self.pool.numbers(self._waits) if self.pool.name else {}
        return {**status, "pool": self.pool.name, "asked": self.asked, "answered": self.answered, **told}

    @property
    def _waits(self) -> bool:
        """Whether a question is without an answer for longer than a free child would take."""
        return self._since is not None and self.reactor.seconds() - self._since > limits.FPM_ANSWER_S

    def tick(self) -> None:
        """Ask, or say that the question before is not answered yet."""
        if self._since is None:
            self._ask()
            return
        if not self._waits:
            return
        waited = self.reactor.seconds() - self._since
        self.why = f"no answer for {waited:.0f} s: all children are busy, or it hangs"
        self._tell()
        if waited > limits.FPM_DEADLINE_S:
            self._give_up()

    def _ask(self) -> None:
        self.asked += 1
        self._since = self.reactor.seconds()
        done: Deferred[Page] = Deferred()
        self._question = done
        done.addCallback(self._answered, done)
        done.addErrback(self._failed, done)
        factory: Factory[Any] = Factory.forProtocol(lambda: _Question(self.status.path, done))
        factory.noisy = False
        address = self.status.address
        try:
            if isinstance(address, str):
                self._connect_unix(address, factory)
            else:
                endpoint = TCP6ClientEndpoint if ":" in address[0] else TCP4ClientEndpoint
                connecting = endpoint(self.reactor, *address, timeout=limits.FPM_ANSWER_S).connect(factory)
                connecting.addErrback(done.errback)
        except OSError as error:
            done.errback(error)

    def _connect_unix(self, path: str, factory: Factory[Any]) -> None:
        """To a UNIX socket whose queue is full Twisted itself tries again and again, without a pause."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as connection:
            connection.connect(path)
            self.reactor.adoptStreamConnection(connection.fileno(), socket.AF_UNIX, factory)

    def _answered(self, page: Page, question: Deferred[Page]) -> None:
        if question is self._question:
            self._since = self._question = None
            self.answered += 1
            self.why = ""
            self.pool.told(page)
            self._tell()

    def _failed(self, failure: Failure, question: Deferred[Page]) -> None:
        if question is not self._question:
            return
        self._since = self._question = None
        error = failure.value
        if isinstance(error, OSError) and error.errno == errno.EAGAIN:
            self._tell(full=True)
        self.why = _words(error)
        n = self._repeated.due("status", self.reactor.seconds())
        if n:
            _log.warn("{name}, {where}: {why}", name=self.name, where=self.status.shown, why=self.why)

    def _give_up(self) -> None:
        question, self._question, self._since = self._question, None, None
        if question is not None and not question.called:
            question.errback(NoStatus("given up"))

    def _tell(self, full: bool = False) -> None:
        if self.pool.name:
            self.rollup.load(self.now()).pool(self.pool.name, self.pool.numbers(full or self._waits))


def _words(error: BaseException | None) -> str:
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EAGAIN:
        return "its listen queue is full"
    if number in (errno.EACCES, errno.EPERM):
        return "may not connect; the agent's user must be in the group of the pool's socket"
    if isinstance(error, NoStatus):
        return str(error)
    return f"cannot connect: {getattr(error, 'strerror', None) or error}"
