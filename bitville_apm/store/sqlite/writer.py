"""The one thread that writes. Batches that wait together are committed together: one fsync for all of them.

A batch is answered after every day file it touches is committed. The files are committed one after another, the
newest day first; should the second fail, what the first took is answered `duplicate` when the sender comes back:
nothing is lost, nothing counted twice.

Whoever else has to change day files asks this thread to: `do` runs something between two commits.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger
from twisted.python.failure import Failure

from bitville_apm import limits
from bitville_apm.store.interface import Arrival, NoSpace, Outcome
from bitville_apm.store.sqlite.days import DayFiles

T = TypeVar("T")
_log = Logger()


@attrs.define(eq=False)
class _Job:
    batch: Sequence[Arrival]
    done: Deferred[Sequence[Outcome]]


@attrs.define(eq=False)
class _Task:
    call: Callable[[DayFiles], Any]
    done: Future[Any]

    def run(self, files: DayFiles) -> None:
        if self.done.set_running_or_notify_cancel():
            try:
                self.done.set_result(self.call(files))
            except BaseException as error:  # noqa: BLE001 - it belongs to whoever asked
                self.done.set_exception(error)


@attrs.define(eq=False)
class Writer:
    """The thread, and the queue in front of it. `start`, `write` and `stop` are called on the reactor's thread."""

    files: DayFiles
    reactor: IReactorFromThreads
    problem: str | None = None
    """What kept the last commit from happening; None when it happened."""
    stored: int = 0
    """Records stored since the start."""
    expired: int = 0
    """Records refused since the start because their day is gone."""
    _queue: SimpleQueue[_Job | _Task | Deferred[None]] = attrs.field(factory=SimpleQueue)
    _over: bool = False

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, name="bitville-writer", daemon=True).start()

    def write(self, batch: Sequence[Arrival]) -> Deferred[Sequence[Outcome]]:
        """Fires after the commit with the outcomes. Fails with `NoSpace`."""
        job = _Job(batch, Deferred())
        self._queue.put(job)
        return job.done

    def do(self, call: Callable[[DayFiles], T]) -> T:
        """What `call` makes of the files, between two commits. From any other thread; waits.

        Raises `concurrent.futures.CancelledError` when the writer has stopped.
        """
        task = _Task(call, Future())
        self._queue.put(task)
        if self._over:
            task.done.cancel()
        found: T = task.done.result()
        return found

    def stop(self) -> Deferred[None]:
        """Fires when everything given before is committed and the files are closed."""
        stopped: Deferred[None] = Deferred()
        self._queue.put(stopped)
        return stopped

    def _run(self) -> None:
        while True:
            group, other = self._next_group()
            if group:
                self._commit(group)
            if isinstance(other, _Task):
                other.run(self.files)
            elif other is not None:
                self.files.close()
                self._cancel_tasks()
                self.reactor.callFromThread(other.callback, None)
                return

    def _cancel_tasks(self) -> None:
        self._over = True
        while True:
            try:
                left = self._queue.get_nowait()
            except Empty:
                return
            if isinstance(left, _Task):
                left.done.cancel()

    def _next_group(self) -> tuple[list[_Job], _Task | Deferred[None] | None]:
        """What waits, up to a group's size; and what came behind it that is no batch."""
        first = self._queue.get()
        group: list[_Job] = []
        while isinstance(first, _Job):
            group.append(first)
            if sum(len(job.batch) for job in group) >= limits.GROUP_RECORDS:
                return group, None
            try:
                first = self._queue.get_nowait()
            except Empty:
                return group, None
        return group, first

    def _commit(self, group: list[_Job]) -> None:
        try:
            outcomes = self.files.write([job.batch for job in group])
        except Exception as error:  # noqa: BLE001 - the thread must live; the senders are told
            if len(group) > 1 and not isinstance(error, NoSpace):
                for job in group:  # so that one batch's trouble is not the others'
                    self._commit([job])
                return
            self._note("the disk is full" if isinstance(error, NoSpace) else f"{type(error).__name__}: {error}")
            for job in group:
                self.reactor.callFromThread(job.done.errback, Failure())
            return
        self._note(None)
        self.stored += sum(outcome == "stored" for batch in outcomes for outcome in batch)
        self.expired += sum(outcome == "expired" for batch in outcomes for outcome in batch)
        for job, outcome in zip(group, outcomes, strict=True):
            self.reactor.callFromThread(job.done.callback, outcome)

    def _note(self, problem: str | None) -> None:
        """Say when trouble begins and when it is over, not each time it hits a batch."""
        if problem is not None and self.problem is None:
            _log.error("nothing is stored: {problem}; senders keep their records and come back", problem=problem)
        elif problem is None and self.problem is not None:
            _log.info("records are stored again")
        self.problem = problem
