"""Which rises are one spike, and when its reports and alerts are due."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitville_apm import limits
from bitville_apm.analysis.detect import Closed, Opened
from bitville_apm.collector.risen import Book, Risen
from bitville_apm.store.interface import Spike
from tests.store.make import spike as kept_as

T = 1_800_000_000.0


def opens(onset: float = T) -> Opened:
    return Opened("tasks", onset, onset + 5, 20.0, 1.0)


def closes(onset: float = T, end: float = T + 60) -> Closed:
    return Closed("tasks", onset, onset + 20, end, 25.0, 1.0)


def kept(**more: object) -> Spike:
    given = {"onset": T, "end": None, "provisional": True, "revision": 4, **more}
    return kept_as("kept", **given)  # type: ignore[arg-type]


def test_hosts_that_rise_together_are_one_spike() -> None:
    """spikes.md: hosts of a project that begin within a minute are one spike, which is over when all are."""
    book = Book()
    first = book.opened("shop", "web1", opens(T), T + 15)
    assert book.opened("shop", "db1", opens(T + limits.SPIKE_JOIN_S), T + 75) is first
    assert book.opened("shop", "web2", opens(T + 2 * limits.SPIKE_JOIN_S + 1), T + 140) is not first
    assert book.opened("blog", "web1", opens(T), T + 15) is not first
    assert (first.onset, first.opened, first.end, sorted(first.hosts)) == (T, T + 5, None, ["db1", "web1"])
    book.closed("shop", "web1", closes(T, T + 90), T + 120)
    assert first.end is None
    book.closed("shop", "db1", closes(T + limits.SPIKE_JOIN_S, T + 100), T + 130)
    assert first.end == T + 100
    assert book.open == 2


def test_a_host_that_tells_of_it_later_joins_it() -> None:
    """design 7: a host whose agent was away during a spike and sends its backlog afterwards is a part of that spike,
    whose report is made again; nobody is told of it twice.
    """
    book = Book()
    spike = book.opened("shop", "web1", opens(), T + 15)
    book.closed("shop", "web1", closes(), T + 95)
    assert spike.alert(T + 96) == "open"
    book.reported(spike, False, T + 200, 1.0)
    assert spike.final
    spike.due = None
    assert book.opened("shop", "web2", opens(T + 3), T + 4000) is spike
    assert (spike.final, spike.due, spike.end) == (False, T + 4000, None)
    book.closed("shop", "web2", closes(T + 3, T + 50), T + 4000)
    assert spike.end == T + 60
    assert spike.alert(T + 4001) is None


def test_one_host_can_have_two_spikes_within_a_minute() -> None:
    """spikes.md: what begins after a spike of the same host is over is another one."""
    book = Book()
    first = book.opened("shop", "web1", opens(), T)
    book.closed("shop", "web1", closes(T, T + 20), T)
    second = book.opened("shop", "web1", opens(T + 50), T)
    assert second is not first
    book.closed("shop", "web1", closes(T + 50, T + 90), T)
    assert (first.end, second.end) == (T + 20, T + 90)
    assert book.opened("shop", "web1", opens(T + 1), T) is first


def test_a_restart_goes_on_with_it() -> None:
    """design 7: a spike known from the store keeps its id and revision when its detector finds it again, sends no
    second alert of its beginning, and one of its end.
    """
    book = Book()
    spike = book.restore(kept(told=1), T + 40)
    assert book.opened("shop", "web1", opens(T + 2), T + 40) is spike
    book.settle("shop", "web1", True, T + 40, T + 40)
    assert (spike.id, spike.revision, spike.end, spike.alert(T + 41)) == ("kept", 4, None, None)
    assert book.closed("shop", "web1", closes(T + 2, T + 60), T + 95) is spike
    assert (spike.end, spike.alert(T + 96), spike.alert(T + 97)) == (T + 60, "over", None)


def test_what_ended_while_the_collector_was_away() -> None:
    """design 7: a spike that nothing tells of any more after a restart is over, at the last second that was seen."""
    book = Book()
    spike = book.restore(kept(), T + 600)
    book.settle("shop", "web2", False, T + 200, T + 600)
    assert spike.end is None
    book.settle("shop", "web1", False, T + 200, T + 600)
    assert (spike.end, spike.due) == (T + 201, T + 600)
    over = book.restore(kept_as("over", T - 900, end=T - 800, provisional=True, told=2), T + 600)
    assert over.due == T + 601
    assert book.opened("shop", "web1", opens(T - 900), T + 600) is over
    assert book.closed("shop", "web1", closes(T - 900, T - 801), T + 600) is over
    assert (over.end, over.alert(T + 601)) == (T - 800, None)


def test_what_was_kept_and_not_told_is_told_after_a_start() -> None:
    """ADV-05: a spike whose beginning or end was not told when the collector died is told by the next one at once, each
    once, as long as it is news.
    """
    book = Book()
    lasts = book.restore(kept_as("lasts", T, end=None), T + 100)
    over = book.restore(kept_as("over", T + 20, end=T + 50), T + 100)
    ended = book.restore(kept_as("ended", T - 5000, end=T + 60, told=1), T + 100)
    assert [spike.due for spike in (lasts, over, ended)] == [T + 101] * 3
    assert [lasts.alert(T + 102), lasts.told, lasts.alert(T + 103)] == ["open", 1, None]
    assert [over.alert(T + 102), over.told, over.alert(T + 103)] == ["open", 2, None]
    assert [ended.alert(T + 102), ended.told, ended.alert(T + 103)] == ["over", 2, None]


def test_what_was_not_told_in_time_is_old_news() -> None:
    """ADV-05: what a collector finds untold more than ten minutes later it tells nobody, and never looks at again."""
    book, late = Book(), T + limits.ALERT_YOUNG_S + 101
    lasts = book.restore(kept_as("lasts", T, end=None), late)
    over = book.restore(kept_as("over", T, end=T + 50), late)
    ended = book.restore(kept_as("ended", T - 5000, end=T + 50, told=1), late)
    assert [over.due, ended.due] == [None, None]
    assert [spike.alert(late + 1) for spike in (lasts, over, ended)] == [None] * 3
    assert [spike.told for spike in (lasts, over, ended)] == [2] * 3


def test_old_news_wakes_nobody() -> None:
    """ADV-05, design 7: a spike whose onset is older than ten minutes is kept and told to nobody, its end neither."""
    book = Book()
    spike = book.opened("shop", "web1", opens(), T + limits.ALERT_YOUNG_S + 1)
    assert spike.due is not None
    assert spike.alert(T + limits.ALERT_YOUNG_S + 1) is None
    book.closed("shop", "web1", closes(), T + limits.ALERT_YOUNG_S + 2)
    assert spike.alert(T + limits.ALERT_YOUNG_S + 2) is None
    young = book.opened("shop", "web1", opens(T + 500), T + 500 + limits.ALERT_YOUNG_S)
    assert young.alert(T + 500 + limits.ALERT_YOUNG_S) == "open"
    book.closed("shop", "web1", closes(T + 500, T + 900), T + 901)
    assert young.alert(T + 901 + limits.ALERT_YOUNG_S) is None


def test_a_spike_that_is_over_when_it_is_told_is_told_once() -> None:
    """ADV-05: one alert for a spike that ended before its first report."""
    book = Book()
    spike = book.opened("shop", "web1", opens(), T + 95)
    book.closed("shop", "web1", closes(), T + 95)
    assert [spike.alert(T + 96), spike.alert(T + 97)] == ["open", None]


def test_nobody_is_told_that_nothing_rose() -> None:
    """ADV-05: while the first windows do not say yet what it is, the alert waits for the next report, not for ever;
    what was over before anything was found wakes nobody.
    """
    book = Book()
    spike = book.opened("shop", "web1", opens(), T + 10)
    spike.due = None
    assert spike.alert(T + 15, explained=False) is None
    book.reported(spike, True, T + 15, took=1.0)
    assert spike.due == T + 15 + limits.WINDOW_S
    assert spike.alert(T + 25, explained=True) == "open"
    slow = book.opened("shop", "web2", opens(T + 500), T + 510)
    assert slow.alert(T + 505 + limits.ALERT_PATIENCE_S, explained=False) == "open"
    short = book.opened("shop", "web3", opens(T + 900), T + 910)
    book.closed("shop", "web3", closes(T + 900, T + 915), T + 950)
    assert [short.alert(T + 951, explained=False), short.alert(T + 1000)] == [None, None]


def test_when_reports_are_due() -> None:
    """spikes.md: at once, every half minute while it lasts but never more than a fifth of the time, at its end, when
    long requests have told theirs, and never again by itself.
    """
    book = Book()
    spike = book.opened("shop", "web1", opens(), T)
    assert book.due(T - 1) is None
    assert book.due(T) is spike
    spike.due = None
    assert spike.alert(T + 1) == "open"
    book.reported(spike, True, T + 1, took=1.0)
    assert spike.due == T + 1 + limits.SPIKE_AGAIN_S
    spike.due = None
    book.reported(spike, True, T + 40, took=20.0)
    assert spike.due == T + 40 + 100
    book.closed("shop", "web1", closes(), T + 90)
    assert spike.due == T + 90
    spike.due = None
    book.reported(spike, True, T + 91, took=1.0)
    assert spike.due == T + 60 + limits.LATE_S + 1
    spike.due = None
    book.reported(spike, False, T + 122, took=1.0)
    assert (spike.final, spike.due) == (True, None)


@pytest.mark.parametrize(
    ("host", "at", "asked"),
    [("web1", -5, True), ("web1", 50, True), ("web1", -10, False), ("web1", 60, False), ("db1", 0, False)],
)
def test_late_frames_ask_for_another_report(host: str, at: float, asked: bool) -> None:
    """design 7: a frame that belongs to a spike that is over has its report made again, a moment later."""
    at += T
    book = Book()
    spike = book.opened("shop", "web1", opens(), T)
    book.frame("shop", host, at, T + 1)
    assert spike.due == T, "while it lasts, reports come anyway"
    book.closed("shop", "web1", closes(), T + 90)
    spike.due = None
    book.frame("blog", host, at, T + 4000)
    assert spike.due is None
    book.frame("shop", host, at, T + 4000)
    book.frame("shop", host, at, T + 4005)
    assert spike.due == (T + 4000 + limits.LATE_WAIT_S if asked else None)


def test_what_nobody_ends_is_over_in_the_end() -> None:
    """A spike whose host is watched no more does not last for ever."""
    book = Book()
    spike = book.opened("shop", "web1", opens(), T)
    spike.due = None
    book.prune(T + limits.SPIKE_LOST_S)
    assert spike.end is None
    book.prune(T + limits.SPIKE_LOST_S + 1)
    assert (spike.end, spike.due) == (T + 5 + limits.NEW_NORMAL_S, T + limits.SPIKE_LOST_S + 1)


def test_the_book_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spikes that are over are known for a day, and so many; those that last always."""
    monkeypatch.setattr(limits, "SPIKES_KNOWN", 3)
    book = Book()
    made: list[Risen] = []
    for n in range(6):
        made.append(book.opened("shop", f"web{n}", opens(T + 100 * n), T))
        made[-1].due = None
        if n:
            book.closed("shop", f"web{n}", closes(T + 100 * n, T + 100 * n + 50), T)
            made[-1].due = None
    book.prune(T + 600)
    assert list(book.spikes.values()) == [made[0], made[4], made[5]]
    assert book.forgotten == 3
    book.prune(T + 550 + limits.SPIKES_KNOWN_S + 1)
    assert list(book.spikes.values()) == [made[0]]
    assert book.forgotten == 3


events = st.lists(
    st.tuples(st.sampled_from(["web1", "web2", "db1"]), st.integers(0, 20), st.integers(1, 15)), max_size=12
)


@given(events)
def test_a_replay_finds_the_same_spikes(rises: list[tuple[str, int, int]]) -> None:
    """design 7: whatever a detector tells again after a restart is known: no second id, and nothing is over twice."""
    told, free = [], dict.fromkeys(("web1", "web2", "db1"), 0)
    for host, start, length in rises:
        if start > free[host]:
            told.append((host, T + 30 * start, T + 30 * (start + length)))
            free[host] = start + length
    book = Book()
    for host, onset, end in told:
        book.opened("shop", host, opens(onset), end)
        book.closed("shop", host, closes(onset, end), end)
    before = {id: {host: (r.onset, r.end) for host, r in spike.hosts.items()} for id, spike in book.spikes.items()}
    for host, onset, end in told:
        book.opened("shop", host, opens(onset), end)
        book.closed("shop", host, closes(onset, end), end)
    after = {id: {host: (r.onset, r.end) for host, r in spike.hosts.items()} for id, spike in book.spikes.items()}
    assert after == before
    assert sum(len(spike.hosts) for spike in book.spikes.values()) == len(told)
