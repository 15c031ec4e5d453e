"""Profiles: self times that add up, recursion, tideways' doubled builtins, 74 real records, and hostile input."""

from __future__ import annotations

import gzip
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitville_apm import limits
from bitville_apm.profile import Function, Profile, from_edges, from_excimer, from_summary

WIRE = Path(__file__).parent / "wire"
FULL, PRUNED = "version1-real-full.ndjson.gz", "version1-real.ndjson.gz"


def records(name: str) -> list[dict[str, Any]]:
    with gzip.open(WIRE / name) as lines:
        return [json.loads(line) for line in lines]


def by_name(profile: Profile) -> dict[str, Function]:
    assert len({f.name for f in profile.functions}) == len(profile.functions)
    return {f.name: f for f in profile.functions}


def edge(calls: float, wall: float, memory: float = 0) -> dict[str, float]:
    return {"ct": calls, "wt": wall, "mu": memory, "pmu": 0}


def assert_adds_up(profile: Profile) -> None:
    own = [f.self_us or 0 for f in profile.functions]
    assert abs(sum(own) - profile.total_us) <= len(own) / 2 + 1
    assert own == sorted(own, reverse=True)
    for f in profile.functions:
        assert (f.self_us or 0) <= (f.inclusive_us or 0)


# --- Excimer ----------------------------------------------------------------------------------------------


def test_excimer_leaf_has_the_time() -> None:
    """PHP-03: a sample is self time of the leaf and inclusive time of every function of its stack, calls unknown."""
    profile = from_excimer("/srv/index.php;A::run;B::load 43\n/srv/index.php;A::run 20\n/srv/index.php 1\n", 10_000)
    assert profile == Profile(
        (
            Function("B::load", 430_000, 430_000, None, None),
            Function("A::run", 200_000, 630_000, None, None),
            Function("/srv/index.php", 10_000, 640_000, None, None),
        ),
        640_000,
    )


def test_excimer_recursion_is_counted_once() -> None:
    """PHP-03: a function that is on a stack three times was there for the time of one stack."""
    walk = by_name(from_excimer("main;walk;walk;walk 5\nmain;walk;leaf;walk;leaf 2", 1000))
    assert (walk["walk"].self_us, walk["walk"].inclusive_us) == (5000, 7000)
    assert (walk["leaf"].self_us, walk["leaf"].inclusive_us) == (2000, 2000)


def test_excimer_skips_what_is_no_stack() -> None:
    """A wrong line is left out, the others count; names with spaces are names."""
    wrong = "a;b\na;b x\na;b -1\na;b 1.5\na;b ٣\n 7\n;; 7\n\na;b " + "9" * 5000 + "\n"
    profile = from_excimer(wrong + "a;{closure:/srv/my app.php(3)} 2", 10)
    assert [f.name for f in profile.functions] == ["{closure:/srv/my app.php(3)}", "a"]
    assert profile.total_us == 20
    for period in 0, -5, math.nan, None, "10":
        assert from_excimer("a 1", period) == Profile((), 0)  # type: ignore[arg-type]


@given(st.lists(st.tuples(st.lists(st.sampled_from("abcd"), min_size=1, max_size=6), st.integers(0, 50))))
def test_excimer_adds_up(stacks: list[tuple[list[str], int]]) -> None:
    """PHP-03: self times add up to the samples taken, and inclusive times are those of the stacks that hold a name."""
    profile = from_excimer("".join(f"{';'.join(frames)} {count}\n" for frames, count in stacks), 100)
    assert_adds_up(profile)
    assert sum(f.self_us or 0 for f in profile.functions) == profile.total_us == 100 * sum(n for _, n in stacks)
    for function in profile.functions:
        assert function.inclusive_us == 100 * sum(n for frames, n in stacks if function.name in frames)


@given(st.text(max_size=300), st.integers())
def test_excimer_takes_any_text(stacks: str, period_us: int) -> None:
    """No text and no period raises, and every number fits a store."""
    assert from_excimer(stacks, period_us).total_us <= limits.INTEGER_MAX


# --- Edges ------------------------------------------------------------------------------------------------


def test_edges_of_xhprof() -> None:
    """PHP-03, PHP-05: self time is what callees do not have; recursion counts inclusive time and memory once."""
    profile = from_edges(
        {
            "main()": edge(1, 1000, 640),
            "main()==>walk": edge(2, 900, 600),
            "walk==>walk@1": edge(4, 700, 500),
            "walk@1==>walk@2": edge(3, 200, 90),
            "walk@1==>read": edge(5, 400, 30),
            "walk@2==>read": edge(1, 50, 10),
        }
    )
    assert profile.total_us == 1000
    assert by_name(profile) == {
        "main()": Function("main()", 100, 1000, 1, 640),
        "walk": Function("walk", 200 + 100 + 150, 900, 9, 600),
        "read": Function("read", 450, 450, 6, 40),
    }
    assert [f.name for f in profile.functions] == ["walk", "read", "main()"]


def test_edges_without_main() -> None:
    """tideways on PHP 8 has no main(): the total is the sum of the entries without a caller."""
    profile = from_edges({"boot": edge(1, 300), "run": edge(1, 500), "run==>query": edge(3, 450)})
    assert profile.total_us == 800
    assert {f.name: f.self_us for f in profile.functions} == {"query": 450, "boot": 300, "run": 50}


def test_doubled_builtins_are_one() -> None:
    """tideways' `f==>f@1` is not a second call, also where `f` is called at two levels or calls back."""
    doubled = by_name(
        from_edges(
            {
                "run": edge(1, 900),
                "run==>strlen": edge(5, 50),
                "strlen==>strlen@1": edge(5, 20),
                "run==>count": edge(6, 60),
                "count==>count@1": edge(6, 30),
                "Bag::count==>count@1": edge(14, 140),
                "run==>Bag::count": edge(14, 200),
                "count@1==>count@2": edge(14, 70),
                "run==>array_map": edge(2, 300),
                "array_map==>array_map@1": edge(2, 290),
                "array_map@1==>callback": edge(8, 250),
                "Text::lower==>lcfirst@1": edge(3, 9),
                "run==>Text::lower": edge(3, 12),
                "lcfirst@1==>lcfirst@2": edge(3, 5),
            }
        )
    )
    expected = {"strlen": 5, "count": 20, "array_map": 2, "callback": 8, "lcfirst": 3}
    assert {name: doubled[name].calls for name in expected} == expected
    assert (doubled["strlen"].self_us, doubled["strlen"].inclusive_us) == (50, 50)
    assert (doubled["count"].self_us, doubled["count"].inclusive_us) == (200, 200)
    assert (doubled["array_map"].self_us, doubled["array_map"].inclusive_us) == (50, 300)


def test_real_recursion_survives() -> None:
    """A function that recurses in earnest keeps all its calls: deeper, or with other work between."""
    chain = {"fact": edge(1, 50), **{f"fact{at(n)}==>fact@{n + 1}": edge(1, 40 - 10 * n) for n in range(4)}}
    assert by_name(from_edges(chain))["fact"] == Function("fact", 50, 50, 5, 0)
    walk = {"walk": edge(1, 90), "walk==>walk@1": edge(1, 60), "walk==>is_dir": edge(1, 10)}
    assert by_name(from_edges(walk))["walk"].calls == 2


def at(level: int) -> str:
    return f"@{level}" if level else ""


def test_names_with_an_at_sign() -> None:
    """Only a number behind the last @ is a level: an anonymous class keeps its name."""
    profile = from_edges({"class@anonymous::run": edge(1, 5), "x@": edge(1, 2), "@2": edge(1, 1)})
    assert [f.name for f in profile.functions] == ["class@anonymous::run", "x@", "@2"]


def test_pruned_edges_still_add_up() -> None:
    """PHP-03: where an edge is missing its time would be found twice; the total stays, the shares are scaled."""
    profile = from_edges({"a": edge(1, 100), "b==>c": edge(1, 100)})
    assert profile.total_us == 100
    assert {f.name: f.self_us for f in profile.functions} == {"a": 50, "c": 50, "b": 0}
    assert {f.name: f.inclusive_us for f in profile.functions} == {"a": 100, "c": 100, "b": 100}


def test_cycles_and_nonsense() -> None:
    """Cycles end, and an entry that is none is skipped without harm to the others."""
    assert by_name(from_edges({"a==>b": edge(1, 5), "b==>a": edge(1, 5), "a==>a": edge(1, 5)})).keys() == {"a", "b"}
    wrong: dict[str, Any] = {
        "": edge(1, 1), "a==>": edge(1, 1), "b": None, "c": 7, "d": [], "e": {}, "f": {"ct": 1}, "g": {"wt": "9"},
        "h": {"wt": -1}, "i": {"wt": math.nan}, "j": {"wt": math.inf}, "k": {"wt": True}, "l": {"wt": 1e300},
        "m": {"wt": 2**64}, "ok": {"wt": 3, "ct": "x", "mu": None}, "==>root": edge(1, 4),
    }  # fmt: skip
    profile = from_edges(wrong)
    assert profile == Profile((Function("root", 4, 4, 1, 0), Function("ok", 3, 3, 0, 0)), 7)


NODE = st.sampled_from(["a", "b", "c", "a@1", "b@1", "a@2", "main()", "x@y", "", "@1"])
NUMBER = st.one_of(st.integers(), st.floats(), st.none(), st.text(max_size=2), st.booleans(), st.just(2**63 - 1))
EDGES = st.dictionaries(
    st.one_of(NODE, st.tuples(NODE, NODE).map("==>".join), st.text(max_size=8)),
    st.one_of(st.fixed_dictionaries({}, optional=dict.fromkeys(("ct", "wt", "mu"), NUMBER)), NUMBER),
)


@given(EDGES)
def test_any_edges_are_read(edges: dict[str, Any]) -> None:
    """No map of edges raises, and every number of the profile fits a store."""
    profile = from_edges(edges)
    for f in profile.functions:
        for value in f.self_us, f.inclusive_us, f.calls, f.memory:
            assert value is not None
            assert limits.INTEGER_MIN <= value <= limits.INTEGER_MAX


@given(
    st.dictionaries(
        st.one_of(NODE, st.tuples(NODE, NODE).map("==>".join)), st.integers(0, 10**9).map(lambda w: edge(1, w))
    )
)
def test_any_sane_edges_add_up(edges: dict[str, Any]) -> None:
    """PHP-03: self times add up to the total, none is negative, and none is above its inclusive time."""
    profile = from_edges(edges)
    assert_adds_up(profile)
    assert all((f.self_us or 0) >= 0 for f in profile.functions)


@given(
    st.recursive(
        st.just([]), lambda inner: st.lists(st.tuples(st.sampled_from("abc"), inner), max_size=4), max_leaves=25
    )
)
def test_edges_of_a_real_call_tree(tree: list[Any]) -> None:
    """PHP-03: from the edges of any call tree come back its true calls, self and inclusive times."""
    edges: dict[str, dict[str, float]] = {}
    calls, own, inclusive, running = (Counter[str]() for _ in range(4))

    def call(name: str, callees: list[Any], caller: str) -> int:
        key = name + at(running[name])
        running[name] += 1
        # Each function works for 7 µs and calls a leaf for 2, so that none looks like a doubled builtin.
        spent = 7 + sum(call(*callee, key) for callee in callees) + (call("leaf", [], key) if name != "leaf" else -5)
        running[name] -= 1
        entry = edges.setdefault(f"{caller}==>{key}" if caller else key, edge(0, 0))
        entry["ct"] += 1
        entry["wt"] += spent
        calls[name] += 1
        own[name] += 2 if name == "leaf" else 7
        inclusive[name] += 0 if running[name] else spent
        return spent

    total = sum(call(name, callees, "") for name, callees in tree)
    profile = from_edges(edges)
    assert profile.total_us == total
    assert {f.name: (f.calls, f.self_us, f.inclusive_us) for f in profile.functions} == {
        name: (calls[name], own[name], inclusive[name]) for name in calls
    }


def test_a_hundred_thousand_edges() -> None:
    """A profile of a hundred thousand edges, or one stack a million deep, is read and ends."""
    edges = {f"f{n}==>f{n * 7919 % 100_003}": edge(1, n) for n in range(100_000)}
    assert_adds_up(from_edges(edges))
    deep = from_excimer(";".join(["a", "b"] * 500_000) + " 3", 10)
    assert [f.inclusive_us for f in deep.functions] == [30, 30]


# --- Real records -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [FULL, PRUNED])
def test_real_profiles_add_up(name: str) -> None:
    """PHP-03: in each of the 74 real records the self times add up to the entries without a caller."""
    found = records(name)
    assert len(found) == {FULL: 4, PRUNED: 70}[name]
    for record in found:
        profile = from_edges(record["xhprof"])
        assert_adds_up(profile)
        assert profile.total_us == sum(entry["wt"] for key, entry in record["xhprof"].items() if "==>" not in key)
        assert profile.total_us < record["elapsed_ms"] * 1000
        assert not [f for f in profile.functions if f.name.rpartition("@")[2].isdecimal()]


def test_real_doubled_builtins_are_gone() -> None:
    """Of the 837 functions doubled in the unpruned records each builtin is called as often as from elsewhere."""
    for record in records(FULL):
        edges = record["xhprof"]
        functions = by_name(from_edges(edges))
        calls: Counter[str] = Counter()
        for key, entry in edges.items():
            caller, arrow, callee = key.rpartition("==>")
            if not arrow or caller.split("@")[0] != callee.split("@")[0]:
                calls[callee.split("@")[0]] += entry["ct"]
        for builtin in (
            "strpos",
            "is_array",
            "count",
            "time",
            "defined",
            "call_user_func_array",
            "unserialize",
            "explode",
        ):
            if builtin in functions:
                assert (builtin, functions[builtin].calls) == (builtin, calls[builtin])


def test_real_recursion_keeps_its_calls() -> None:
    """Real recursion in the unpruned records keeps every call of every level."""
    blog = by_name(from_edges(records(FULL)[0]["xhprof"]))
    assert blog["apply_filters"].calls == 3499 + 5311 + 3452 + 638 + 11
    assert blog["translate_settings_using_i18n_schema"].calls == 214 + 75 + 26 + 12 + 72 + 72


def test_real_known_functions_are_on_top() -> None:
    """PHP-03: WordPress' time is in its queries, MediaWiki's in connecting and querying, as those requests were."""
    blog, _, wiki, _ = (from_edges(record["xhprof"]) for record in records(FULL))
    assert (blog.functions[0].name, blog.functions[0].calls, blog.total_us) == ("mysqli_query", 46, 128_340)
    assert {f.name for f in wiki.functions[:4]} >= {"pg_connect", "pg_get_result", "pg_send_query"}


# --- The first version's summary --------------------------------------------------------------------------


def test_summary_of_the_second_spelling() -> None:
    """The first version's summary knows inclusive times and calls; self time and memory are said to be unknown."""
    record = json.loads((WIRE / "version1-second-spelling.ndjson").read_text().splitlines()[0])
    expected = Profile(
        (
            Function("Shop\\Cart::reprice", None, 410_000, 3, None),
            Function("PDOStatement::execute", None, 180_000, 14, None),
        ),
        640_250,
    )
    assert from_summary(record["xhprof"]) == from_summary(record["xhprof"]["profiling"]) == expected


def test_summary_in_milliseconds_and_without_total() -> None:
    """Either unit of a time will do, and the longest function stands for a missing total."""
    top = [{"name": "a", "wall_time_ms": 1.5}, {"name": "b", "wall_time_us": 9, "wall_time_ms": 77, "calls": 2}]
    assert from_summary({"top_functions": top}) == Profile(
        (Function("a", None, 1500, None, None), Function("b", None, 9, 2, None)), 1500
    )


@given(
    st.recursive(
        NUMBER,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(st.sampled_from(["profiling", "top_functions", "name", "calls", "wall_time_us"]), inner),
        ),
    )
)
def test_any_summary_is_read(value: Any) -> None:
    """No summary raises, whatever is where a list, a name or a number belongs."""
    for key in "profiling", "top_functions":
        assert from_summary({key: value}).total_us >= 0
