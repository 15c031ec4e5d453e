"""Time of children that nobody saw: their parent's, once, however the kernel's and our own knowledge come together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bitville_apm import limits
from bitville_apm.agent.host.families import NOBODY, Families

ALIVE = {1, 10, 20}


def test_children_that_were_never_seen() -> None:
    """Wire 6: a thousand short commands are their parent's."""
    families = Families()
    families.raised(10, 700)
    families.raised(10, 50)
    families.raised(20, 5)
    assert dict(families.unseen(ALIVE)) == {10: 750, 20: 5}
    assert dict(families.unseen(ALIVE)) == {}


def test_of_a_known_child_only_the_end_is_news() -> None:
    """What was seen of a child is not told again when its parent has it, though that comes to be known later."""
    families = Families()
    families.gone(100, parent=10, known_ns=1000)
    assert dict(families.unseen(ALIVE)) == {}
    families.raised(10, 1030)
    assert dict(families.unseen(ALIVE)) == {10: 30}


def test_a_grandchild() -> None:
    """A shell that waited for a long child and ends itself: its parent gets both, and both were seen."""
    families = Families()
    families.gone(101, parent=100, known_ns=4000)
    families.gone(100, parent=10, known_ns=7)
    families.raised(10, 4007 + 3)
    assert dict(families.unseen(ALIVE)) == {10: 3}
    families.gone(100, parent=10, known_ns=7)
    families.gone(101, parent=100, known_ns=4000)
    families.raised(10, 4007 + 3)
    assert sum(ns for _, ns in families.unseen(ALIVE)) == 3


def test_an_orphan_is_no_news_to_who_takes_it_in() -> None:
    """A daemon of a week that ends is no load of `init`, which waits for it."""
    families = Families()
    families.gone(100, parent=NOBODY, known_ns=10**15)
    families.raised(1, 10**15 + 5)
    assert dict(families.unseen(ALIVE)) == {1: 5}


def test_a_parent_that_never_waits() -> None:
    """Nothing stays open for ever with a parent that ignores its children: what they use later is told."""
    families = Families()
    families.gone(100, parent=10, known_ns=10**12)
    for _ in range(limits.HOST_OWED_LOOKS + 1):
        assert dict(families.unseen(ALIVE)) == {}
    families.raised(10, 8)
    assert dict(families.unseen(ALIVE)) == {10: 8}


@given(
    st.lists(
        st.tuples(st.integers(0, 1000), st.integers(0, 1000), st.sampled_from([10, 20, NOBODY]), st.integers(0, 2)),
        max_size=20,
    )
)
def test_nothing_is_told_twice(children: list[tuple[int, int, int, int]]) -> None:
    """All that is told, with what was seen of each child, is never more than what the children used."""
    families, told = Families(), 0
    for pid, (seen, unseen, parent, order) in enumerate(children, 100):
        families.gone(pid, parent, seen)
        if order == 2:
            told += sum(ns for _, ns in families.unseen(ALIVE))
        families.raised(parent or 1, seen + unseen)
        if order:
            told += sum(ns for _, ns in families.unseen(ALIVE))
    told += sum(ns for _, ns in families.unseen(ALIVE))
    assert told <= sum(unseen for _, unseen, _, _ in children)
