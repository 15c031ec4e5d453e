"""The journal against a list: whatever order of appends, crashes, power cuts, damage and refusals befalls it."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import uuid
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from bitville_apm import limits
from bitville_apm.agent import recovery, segment
from bitville_apm.agent.appends import NotWritten
from bitville_apm.agent.disk import Disk
from bitville_apm.agent.journal import Journal
from bitville_apm.agent.outgoing import counted
from bitville_apm.agent.segment import LOCAL, Entry, Place, Record
from bitville_apm.agent.totals import NONE, Count, Totals
from tests.agent.forgetful import Forgetful
from tests.agent.journal_rig import at_once, done, result

NOW = 1_795_231_300.0
SEGMENT_BYTES = 900
"""Of about five records each, so that a history has many."""
MEMORY_RECORDS = 5
RECENT_BYTES = 1500
"""Held for the sender, and remembered of what is on disk: the most is read back."""


class JournalMachine(RuleBasedStateMachine):
    """What was acknowledged is in `kept` until it is settled; what need not survive a power cut is in `soft`, too."""

    def __init__(self) -> None:
        super().__init__()
        base = "/dev/shm" if os.path.isdir("/dev/shm") else None
        self.base = Path(tempfile.mkdtemp(prefix="journal-model-", dir=base))
        self.before = limits.SEGMENT_BYTES, limits.MEMORY_RECORDS, limits.RECENT_BYTES
        limits.SEGMENT_BYTES, limits.MEMORY_RECORDS, limits.RECENT_BYTES = SEGMENT_BYTES, MEMORY_RECORDS, RECENT_BYTES
        self.kept: dict[Place, Entry] = {}
        self.soft: set[Place] = set()
        self.named: dict[Place, str] = {}
        self.maybe: dict[str, Entry] = {}
        self.resettled: set[Place] = set()
        self.hand: list[Record] = []
        self.groups: dict[str, str] = {}
        self.settled: set[str] = set()
        self.n = 0

    @initialize(policy=st.sampled_from(["always", "interval", "never"]), seed=st.integers(0, 2**32))
    def begin(self, policy: str, seed: int) -> None:
        self.policy = policy
        self.chance = random.Random(seed)
        self.disk = Forgetful(self.base / "j", self.chance)
        self.layer = self.disk.in_place()
        self.layer.__enter__()
        self.start()

    def start(self) -> None:
        self.clock = Clock()
        self.journal = Journal(Disk(self.base / "j", self.policy), at_once, self.clock, lambda: NOW)
        done(self.journal.start())
        self.hand = []
        self.last: Place = (0, 0)

    def teardown(self) -> None:
        try:
            if hasattr(self, "layer"):
                self.mend()
                self.everything_is_delivered()
        finally:
            if hasattr(self, "layer"):
                self.close_files()
                self.layer.__exit__(None, None, None)
            limits.SEGMENT_BYTES, limits.MEMORY_RECORDS, limits.RECENT_BYTES = self.before
            shutil.rmtree(self.base)

    # --- what may happen ------------------------------------------------------------------------------------

    def entry(self, local: bool, requests: int, size: int) -> Entry:
        self.n += 1
        body = b'{"n":%d,"x":"%b"}' % (self.n, b"y" * size)
        return Entry("end", str(uuid.UUID(int=self.n)), int(NOW * 1000), body, LOCAL if local else 0, requests)

    @rule(entries=st.lists(st.tuples(st.booleans(), st.integers(1, 9), st.integers(0, 300)), min_size=1, max_size=12))
    def append(self, entries: list[tuple[bool, int, int]]) -> None:
        made = [self.entry(*e) for e in entries]
        fired = [(e, self.journal.append(e)) for e in made]
        self.clock.advance(0)
        for entry, deferred in fired:
            self.written(entry, deferred, soft=self.policy != "always")

    @rule(sizes=st.lists(st.integers(0, 300), min_size=1, max_size=6), requests=st.integers(0, 500))
    def append_together(self, sizes: list[int], requests: int) -> None:
        made = [self.entry(False, requests, size) for size in sizes]
        fired = self.journal.append_together(made)
        self.clock.advance(0)
        for entry in made:
            self.groups[entry.id] = made[0].id
        try:
            run, last = result(fired)
        except NotWritten:
            self.maybe.update({entry.id: entry for entry in made})
            return
        for sequence, entry in enumerate(made, last - len(made) + 1):
            self.keep((run, sequence), entry)

    def written(self, entry: Entry, deferred: Deferred[Place], soft: bool) -> None:
        try:
            place: Place = result(deferred)
        except NotWritten:
            self.maybe[entry.id] = entry
            return
        self.keep(place, entry)
        if soft:
            self.soft.add(place)

    def keep(self, place: Place, entry: Entry) -> None:
        assert self.named.setdefault(place, entry.id) == entry.id, "a place names one record for ever"
        if not entry.flags & LOCAL:
            self.kept[place] = entry

    @rule()
    def half_a_second_passes(self) -> None:
        self.clock.advance(limits.FSYNC_INTERVAL_S)
        if self.journal._durable == self.journal.written:
            self.soft = set() if self.policy == "interval" else self.soft

    @rule(items=st.integers(1, 30), size=st.sampled_from([100, 1000, 10**6]))
    def take(self, items: int, size: int) -> None:
        if self.hand:
            return
        try:
            self.hand = done(self.journal.take(items, size))
        except OSError:
            return
        for record in self.hand:
            self.check(record)
            if self.policy != "never":
                self.soft.discard(record.place)

    def check(self, record: Record) -> None:
        assert record.place > self.last, "in order"
        self.last = record.place
        expected = self.kept.get(record.place) or self.maybe.get(record.entry.id)
        if record.place in self.resettled:
            return
        assert expected is not None, "nobody wrote this, or it was settled"
        assert (record.entry.body, record.entry.requests) == (expected.body, expected.requests)

    @precondition(lambda self: self.hand)
    @rule(share=st.floats(0.1, 1.0))
    def settle(self, share: float) -> None:
        part = self.hand[: max(1, int(len(self.hand) * share))]
        self.hand = self.hand[len(part) :]
        self.journal.failing  # noqa: B018
        result(self.journal.settle(part[-1].place, Totals(stored=counted(part))))
        durable = "cursor" not in self.journal.failing
        for record in part:
            self.kept.pop(record.place, None)
            self.maybe.pop(record.entry.id, None)
            self.settled.add(record.entry.id)
            if not durable:
                self.resettled.add(record.place)

    @rule()
    def the_process_is_killed(self) -> None:
        self.close_files()
        self.mend()
        self.start()

    @precondition(lambda self: self.policy != "never" or not self.kept)
    @rule()
    def the_power_is_cut(self) -> None:
        self.close_files()
        self.mend()
        self.disk.cut_power()
        for place in self.soft:
            if place in self.kept:
                entry = self.kept.pop(place)
                self.maybe[entry.id] = entry
        self.soft = set()
        self.start()

    @rule(where=st.floats(0, 1, exclude_max=True))
    def a_byte_goes_bad_while_it_is_stopped(self, where: float) -> None:
        self.close_files()
        self.mend()
        before = self.lost_of_a_copy()
        hit = self.flip(where)
        self.start()
        if hit is not None:
            self.groups.pop(hit.entry.id, None)
        if hit is not None and hit.place in self.kept:
            lost = self.kept.pop(hit.place).count
            self.everything_is_delivered()
            assert self.journal.books.totals.corrupt == before + lost

    def lost_of_a_copy(self) -> Count:
        """What a process that started now would find to be lost, once it had delivered all."""
        shutil.copytree(self.base / "j", self.base / "copy")
        journal = Journal(Disk(self.base / "copy", self.policy), at_once, Clock(), lambda: NOW)
        done(journal.start())
        while batch := done(journal.take(50, 10**6)):
            result(journal.settle(batch[-1].place, Totals(stored=counted(batch))))
        shutil.rmtree(self.base / "copy")
        return journal.books.totals.corrupt

    def flip(self, where: float) -> Record | None:
        """Flip a byte of a record that is neither the last one nor in the last group; gives back which."""
        files = sorted((self.base / "j").glob("*.segment"))
        found: list[tuple[Path, int, int, Record]] = []
        for path in files:
            run, _ = segment.named(path.name) or (0, 0)
            for start, end, what in segment.walk(path.read_bytes(), run):
                if isinstance(what, Record):
                    found.append((path, start, end, what))
        while found and found[-1][3].part:
            found.pop()
        if len(found) < 2 or len({record.place for *_, record in found}) < len(found):
            return None
        path, start, end, record = found[int(where * (len(found) - 1))]
        at = self.chance.randrange(start, end)
        data = bytearray(path.read_bytes())
        data[at] ^= 1 << self.chance.randrange(8)
        self.disk.damage(path, bytes(data))
        return record

    @rule(what=st.sampled_from(["full", "deaf", "lying"]))
    def the_disk_goes_wrong(self, what: str) -> None:
        setattr(self.disk, what, True)

    @rule()
    def the_disk_is_well_again(self) -> None:
        self.mend()

    @rule()
    def one_fsync_fails(self) -> None:
        self.disk.deaf = True
        self.half_a_second_passes()
        self.disk.deaf = False
        self.half_a_second_passes()

    @rule(
        calls=st.integers(1, 6),
        sizes=st.lists(st.integers(0, 300), min_size=1, max_size=6),
        together=st.booleans(),
        power=st.booleans(),
    )
    def it_ends_while_it_writes(self, calls: int, sizes: list[int], together: bool, power: bool) -> None:
        self.disk.calls_left = calls
        if together:
            self.append_together(sizes, 7)
        else:
            self.append([(False, 1, size) for size in sizes])
        if power and self.policy != "never":
            self.the_power_is_cut()
        else:
            self.the_process_is_killed()

    def mend(self) -> None:
        self.disk.calls_left = None
        self.disk.full = self.disk.deaf = self.disk.lying = False

    def close_files(self) -> None:
        """As a killed process does, without a last word."""
        writer = self.journal.disk._writer
        if writer is not None and writer._descriptor >= 0:
            os.close(writer._descriptor)
            writer._descriptor = -1

    # --- what must hold -------------------------------------------------------------------------------------

    @invariant()
    def the_books_balance(self) -> None:
        if not hasattr(self, "journal"):
            return
        journal = self.journal
        waiting = Count(journal.backlog.memory_count + journal.backlog.disk_count)
        hand = counted(self.hand)
        missing = sum((count for _, count in journal.books._losses), NONE)
        assert journal.books.entered.records == (journal.books.totals.all + hand + waiting + missing).records
        assert journal.books.pending == journal.books.entered - journal.books.totals.all

    def everything_is_delivered(self) -> None:
        """All that was acknowledged and is not settled comes, once, in order; then nothing is pending."""
        for _ in range(3):
            self.clock.advance(limits.FSYNC_INTERVAL_S)
        came: list[Record] = list(self.hand)
        while True:
            batch: list[Record] = done(self.journal.take(50, 10**6))
            if not batch and not self.hand:
                break
            for record in batch:
                self.check(record)
            came += batch
            self.hand += batch
            result(self.journal.settle(self.hand[-1].place, Totals(stored=counted(self.hand))))
            self.hand = []
        places = [record.place for record in came]
        assert set(self.kept) <= set(places), "acknowledged, and gone"
        ids = {record.entry.id for record in came}
        for id_, first in self.groups.items():
            if id_ in ids and id_ in self.maybe:
                whole = {i for i, f in self.groups.items() if f == first}
                assert whole <= ids | self.settled, "part of a group"
        for record in came:
            self.kept.pop(record.place, None)
            self.maybe.pop(record.entry.id, None)
        assert self.journal.books.pending == NONE
        assert recovery.listed(self.base / "j") is not None


def run_histories(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        JournalMachine,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


def test_a_few_hundred_histories() -> None:
    """faults 13, DAEMON-06: as below, as many as a commit has time for."""
    run_histories(150, 25)


@pytest.mark.full
def test_ten_thousand_histories() -> None:
    """faults 13: nothing acknowledged is lost or comes twice, but for what an fsync had not reached at a power cut."""
    run_histories(10_000, 30)


def test_the_layer_forgets(tmp_path: Path) -> None:
    """The check above is worth something: what is not made durable is gone after a power cut, some of the time."""
    lost = 0
    for seed in range(20):
        disk = Forgetful(tmp_path / str(seed), random.Random(seed))
        disk.directory.mkdir()
        with disk.in_place():
            descriptor = os.open(disk.directory / "a", os.O_RDWR | os.O_CREAT, 0o600)
            os.pwrite(descriptor, b"kept", 0)
            os.fsync(descriptor)
            parent = os.open(disk.directory, os.O_RDONLY)
            os.fsync(parent)
            os.pwrite(descriptor, b"soft", 4)
            os.close(descriptor)
            os.close(parent)
            disk.cut_power()
        data = (disk.directory / "a").read_bytes()
        assert data.startswith(b"kept")
        lost += data != b"keptsoft"
    assert 0 < lost < 20
