"""From what a profiler leaves to functions: self time, inclusive time, calls, memory.

Three inputs (wire.md 2 and 3): Excimer's stacks, the caller/callee edges of XHProf and tideways_xhprof, and the
first version's summary. Self times of a profile add up to its total, so that shares of them can be told; inclusive
times overlap and are never added, also not over the levels of a recursion (`f`, `f@1`, `f@2` are one function).

Whatever is no profile is skipped entry by entry: hostile input costs its length and raises nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from bitville_apm import limits

_COUNT_DIGITS = len(str(limits.NUMBER_MAX))
"""A number of samples as long as this is none: time adds up over many records."""


class Function(Struct, frozen=True):
    """One function in one request; microseconds and bytes, None where the profiler does not tell.

    `self_us` is unknown in a summary, `calls` in samples. `memory` is what was allocated and not freed between
    entry and return, callees included; it can be negative.
    """

    name: str
    self_us: int | None
    inclusive_us: int | None
    calls: int | None
    memory: int | None


class Profile(Struct, frozen=True):
    """All functions, longest self time first, and the time they had together."""

    functions: tuple[Function, ...]
    total_us: int


class Own(Struct, frozen=True):
    """What one request spent in one function itself, µs; `calls` is None where they are not counted.

    `busy_us` is the part of it in which the function did not wait for a statement it had sent: CPU is spread by it.
    """

    name: str
    us: int
    calls: int | None
    busy_us: int


def own_times(stacks: str, period_us: int) -> dict[str, int]:
    """Self time by function, of Excimer's stacks: all that adding up needs, at a third of `from_excimer`'s cost."""
    own: dict[str, int] = {}
    for line in stacks.split("\n") if period_us > 0 else ():
        stack, _, count = line.rpartition(" ")
        if count.isascii() and count.isdecimal() and len(count) < _COUNT_DIGITS:
            leaf = stack.rstrip(";").rpartition(";")[2]
            if leaf:
                own[leaf] = min(own.get(leaf, 0) + int(count) * period_us, limits.INTEGER_MAX)
    return own


def from_excimer(stacks: str, period_us: int) -> Profile:
    """Samples as `file;caller;callee count` lines: the leaf was running, all others were waiting for it.

    A function is counted once for a stack, however often a recursion has put it there.
    """
    own: defaultdict[str, int] = defaultdict(int)
    inclusive: defaultdict[str, int] = defaultdict(int)
    period_us = int(_amount(period_us) or 0)
    for line in stacks.split("\n") if period_us else ():
        stack, _, count = line.rpartition(" ")
        frames = [frame for frame in stack.split(";") if frame]
        if not frames or not (count.isascii() and count.isdecimal()) or len(count) >= _COUNT_DIGITS:
            continue
        us = int(count) * period_us
        own[frames[-1]] += us
        for frame in set(frames):
            inclusive[frame] += us
    functions = [Function(name, _whole(own.get(name, 0)), _whole(us), None, None) for name, us in inclusive.items()]
    return _profile(functions, sum(own.values()))


class _Node:
    """A function at one level of recursion: what came in from its callers and what went out to its callees."""

    __slots__ = ("calls", "came", "level", "memory", "name", "others", "repeats", "went")

    def __init__(self, key: str) -> None:
        name, at, level = key.rpartition("@")
        deeper = bool(at and name and level.isascii() and level.isdecimal() and len(level) < 10)
        self.name, self.level = (name, int(level)) if deeper else (key, 0)
        self.came: float = 0
        self.went: float = 0
        self.calls: float = 0
        self.repeats: float = 0  # calls it made to itself
        self.memory: float = 0
        self.others = False  # calls something else than itself

    @property
    def whole(self) -> float:
        """Its inclusive time; of a pruned profile at least what its callees had."""
        return max(self.came, self.went)


def from_edges(edges: Mapping[str, Any]) -> Profile:
    """Edges `{"caller==>callee": {ct, wt, mu}}` of one request: calls, µs, bytes. An entry without a caller is a root.

    tideways on PHP 8 has many roots instead of `main()`, and records each builtin twice, as `f` and `f==>f@1`
    (told in `_calls`). A sender that prunes leaves callees whose caller seems to have kept their time: all self
    times are scaled then, so that they still add up to the total.
    """
    nodes: dict[str, _Node] = {}
    roots = 0.0
    for key, entry in edges.items():
        wall = _amount(entry.get("wt")) if isinstance(entry, Mapping) else None
        caller, arrow, callee = key.partition("==>")
        callee = callee if arrow else caller
        if wall is None or not callee:
            continue
        node = nodes.get(callee) or nodes.setdefault(callee, _Node(callee))
        calls = _amount(entry.get("ct")) or 0
        node.came += wall
        node.calls += calls
        node.memory += _amount(entry.get("mu"), limits.INTEGER_MIN) or 0
        if not arrow or not caller:
            roots += wall
            continue
        parent = nodes.get(caller) or nodes.setdefault(caller, _Node(caller))
        parent.went += wall
        if parent.name == node.name:
            parent.repeats += calls
        else:
            parent.others = True
    own = sum(node.whole - node.went for node in nodes.values())
    total = min(own, max([roots, *(node.whole for node in nodes.values())]))
    share = total / own if own else 0.0
    levels: defaultdict[str, list[_Node]] = defaultdict(list)
    for node in nodes.values():
        levels[node.name].append(node)
    return _profile([_function(name, found, share) for name, found in levels.items()], total)


def from_summary(summary: Mapping[str, Any]) -> Profile:
    """The first version's `profiling` part, alone or in its record: inclusive times only; the total may be missing."""
    inside = summary.get("profiling", summary)
    listed = inside.get("top_functions") if isinstance(inside, Mapping) else None
    functions = {}
    for entry in listed if isinstance(listed, list) else ():
        name = entry.get("name") if isinstance(entry, Mapping) else None
        us, ms = (_amount(entry.get(key)) for key in ("wall_time_us", "wall_time_ms")) if name else (None, None)
        if isinstance(name, str) and (us is not None or ms is not None):
            calls = _amount(entry.get("calls"))
            inclusive = us if us is not None else (ms or 0.0) * 1000
            functions[name] = Function(name, None, _whole(inclusive), None if calls is None else _whole(calls), None)
    total = _amount(inside.get("total_wall_time")) if isinstance(inside, Mapping) else None
    return _profile(
        list(functions.values()), total or max((f.inclusive_us or 0 for f in functions.values()), default=0)
    )


def _function(name: str, levels: list[_Node], share: float) -> Function:
    """One function from its levels of recursion; the outermost holds the time and the memory of the others."""
    levels.sort(key=lambda node: node.level)
    own = sum(node.whole - node.went for node in levels) * share
    outermost = levels[0]
    return Function(
        name=name,
        self_us=_whole(own),
        inclusive_us=_whole(max(outermost.whole, own)),
        calls=_whole(_calls(levels)),
        memory=_whole(outermost.memory),
    )


def _calls(levels: list[_Node]) -> float:
    """How often it was called: each level's calls, but a builtin that tideways recorded twice only once.

    Such a builtin does nothing but call itself, and that call is either a leaf or, counted over all levels, one for
    each call from elsewhere. A function that recurses in earnest does other things too or goes deeper. In a pruned
    profile some calls from elsewhere are missing, so the larger of the two counts is the better one.
    """
    calls = sum(node.calls for node in levels)
    repeats = sum(node.repeats for node in levels)
    only_itself = levels[0].repeats > 0 and not levels[0].others
    leaf = len(levels) == 2 and not levels[1].others and not levels[1].repeats
    return max(repeats, calls - repeats) if only_itself and (leaf or repeats * 2 == calls) else calls


def _profile(functions: list[Function], total: float) -> Profile:
    """Sorted by self time, then inclusive, then name, so that equal profiles are equal."""
    functions.sort(key=lambda f: (-(f.self_us or 0), -(f.inclusive_us or 0), f.name))
    return Profile(tuple(functions), _whole(total))


def _amount(value: Any, least: int = 0) -> float | None:
    """A number from `least` on and within a record's bounds; None for anything else (NaN compares false)."""
    return value if type(value) in (int, float) and least <= value <= limits.INTEGER_MAX else None


def _whole(value: float) -> int:
    """Rounded and within 64 bits, as a store can hold it: sums of hostile numbers may be larger."""
    return max(limits.INTEGER_MIN, min(limits.INTEGER_MAX, round(value)))
