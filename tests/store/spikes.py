"""What a store keeps of spikes, held against a plain filter; see `contract.py`."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitville_apm import limits
from bitville_apm.store.interface import Projects, Spike
from tests.store.contract import BLOG, SHOP, Contract, Open, quick
from tests.store.make import DAY, NOON, spike


def some_spikes() -> st.SearchStrategy[list[Spike]]:
    """Spikes of two projects whose times, hosts and signatures often coincide, some of them still open."""
    made = st.builds(
        lambda n, project, minute, length, hosts, signature: spike(
            f"{project}-{n}",
            NOON + minute * 60,
            project=project,
            end=None if length is None else NOON + (minute + length) * 60,
            hosts=hosts,
            signature=signature,
        ),
        st.integers(0, 5),
        st.sampled_from(["shop", "blog"]),
        st.integers(0, 6),
        st.sampled_from([None, 1, 3]),
        st.sampled_from([["web1"], ["web2"], ["web1", "web2"], ['a","b', "c"]]),
        st.sampled_from(["s", "t"]),
    )
    return st.lists(made, max_size=12, unique_by=lambda made: made.id)


class SpikesContract(Contract):
    """Kept, listed, seen by those who may."""

    @quick
    @given(
        some_spikes(),
        st.sampled_from([None, SHOP, BLOG, frozenset({"nobody"})]),
        st.integers(-2, 10),
        st.integers(0, 4),
        st.sampled_from([None, "web1", "web2", ",", "c"]),
        st.sampled_from([None, "s", "u"]),
        st.integers(1, 4),
    )
    def test_spikes_of_a_window(
        self, kept: list[Spike], projects: Projects, minute: int, length: int, host: str | None, signature: str | None,
        limit: int,
    ) -> None:  # fmt: skip
        """STOR-04: a list has the caller's spikes that lasted into its window, newest first, up to the limit."""
        with self.open() as opened:
            for made in kept:
                opened.pump.ask(opened.store.keep_spike(made))
            start, end = NOON + minute * 60, NOON + (minute + length) * 60
            found = opened.pump.ask(opened.store.spikes(projects, start, end, host, limit, signature))
            wanted = [
                msgspec.structs.replace(made, report=b"")
                for made in sorted(kept, key=lambda made: (-made.onset, made.id))
                if (projects is None or made.project in projects)
                and made.onset < end
                and (made.end is None or made.end >= start)
                and (host is None or host in made.hosts)
                and (signature is None or made.signature == signature)
            ]
            assert list(found) == wanted[:limit]

    def test_a_spike_by_its_id(self, opened: Open) -> None:
        """STOR-04: a permanent link gives the whole spike, to those only who may see its project."""
        made = spike("a", end=None, report=b"{}" * 50_000)
        ask, store = opened.pump.ask, opened.store
        ask(store.keep_spike(made))
        assert ask(store.spike(None, "a")) == ask(store.spike(SHOP, "a")) == made
        assert ask(store.spike(BLOG, "a")) is None
        assert ask(store.spike(None, "b")) is None

    def test_a_later_revision_takes_the_place(self, opened: Open) -> None:
        """Of one spike the newest revision is kept, in whatever order they come; another project cannot take its id."""
        ask, store = opened.pump.ask, opened.store
        first, second = spike("a", end=None), spike("a", revision=2, verdict="it was the backup", hosts=["web1", "db1"])
        for made in (first, second, first, spike("a", project="blog", revision=9)):
            ask(store.keep_spike(made))
        assert ask(store.spike(None, "a")) == second
        assert len(ask(store.spikes(None, 0, 1e10, None, 9))) == 1

    def test_what_was_told_of_a_spike(self, opened: Open) -> None:
        """ADV-05: what people were told is kept, later revisions or not, and is never less again."""
        ask, store = opened.pump.ask, opened.store
        ask(store.keep_spike(spike("a")))
        seen = []
        for revision, told in enumerate((0, 1, 2, 1), 2):
            ask(store.told_spike("a", told))
            ask(store.keep_spike(spike("a", revision=revision)))
            seen.append((ask(store.spike(None, "a")).told, ask(store.spikes(None, 0, 1e10, None, 9))[0].told))
        assert seen == [(0, 0), (1, 1), (2, 2), (2, 2)]
        ask(store.told_spike("nobody", 1))

    def test_spikes_outlive_the_days_they_were_in(self, opened: Open) -> None:
        """STOR-02: spikes stay for as long as hours do, and of a project that has too many the newest."""
        ask, store = opened.pump.ask, opened.store
        age = limits.HOURS_KEPT_DAYS * DAY
        for made in (spike("old", NOON - age - 1), spike("young", NOON - age + 1), spike("new")):
            ask(store.keep_spike(made))
        ask(store.clean_up())
        assert [found.id for found in ask(store.spikes(None, 0, 1e10, None, 9))] == ["new", "young"]

    def test_each_project_has_its_own_bound(self, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
        """A project that spikes all the time costs others none of theirs."""
        monkeypatch.setattr(limits, "SPIKES_KEPT", 2)
        ask, store = opened.pump.ask, opened.store
        for n in range(4):
            ask(store.keep_spike(spike(f"s{n}", NOON + n)))
        ask(store.keep_spike(spike("b", NOON - DAY, project="blog")))
        ask(store.clean_up())
        found: Sequence[Spike] = ask(store.spikes(None, 0, 1e10, None, 9))
        assert [one.id for one in found] == ["s3", "s2", "b"]
