"""Excimer's samples in the record."""

from __future__ import annotations

import hmac
import json
import time
from typing import Any

import pytest

from bitville_apm import profile
from bitville_apm.cli import main
from tests.php.peer import PHP, Site, base_options
from tests.tools import require

CODE = """
class Work { function run($ms) { usleep($ms * 1000); } static function burn($ms) {
    $end = hrtime(true) + $ms * 1e6; while (hrtime(true) < $end) { md5('x'); } } }
"""


@pytest.fixture(autouse=True)
def _excimer(site: Site) -> None:
    if not any("excimer" in option for option in base_options(("excimer",))):
        require("php-excimer")


def samples(end: dict[str, Any]) -> dict[str, int]:
    """Stack => samples, after checking the format of every line."""
    found = {}
    for line in end["profile"]["stacks"].splitlines():
        stack, _, count = line.rpartition(" ")
        assert stack
        assert not stack.startswith(";")
        assert "BitvilleApm" not in stack
        assert str(PHP) not in stack
        found[stack] = int(count)
    return found


def profiled(site: Site, code: str, **settings: object) -> dict[str, Any]:
    settings.setdefault("profiling_threshold_ms", 0)
    site.configure(None, **settings)
    with site.agent() as agent:
        site.run(CODE + code)
        return agent.one("end")


def test_stacks(site: Site) -> None:
    """PHP-03: collapsed stacks, sleeping counted on the function that called, times add up to the wall time."""
    end = profiled(site, "(new Work)->run(300); Work::burn(200);")
    assert end["profile"]["kind"] == "excimer"
    assert end["profile"]["period_us"] == 10_000
    found = samples(end)
    path = f"{site.root}/app.php"
    assert 15 <= found[f"{path};Work::run"] <= 35
    assert 8 <= found[f"{path};Work::burn"] <= 30
    assert sum(found.values()) * 10 <= end["ms"] * 1.3 + 20


def test_time_at_the_very_end_is_the_scripts(site: Site) -> None:
    """PHP-03: ticks that are still pending when the script ends are counted, and not to the client."""
    found = samples(profiled(site, "usleep(200000);"))
    assert set(found) == {f"{site.root}/app.php"}
    assert 10 <= sum(found.values()) <= 30


def test_statements_count_to_their_caller(site: Site) -> None:
    """PHP-06: our PDO class is no frame: its time belongs to the function that asked."""
    code = """
    function shop() { $d = new BitvilleApm\\Pdo('sqlite::memory:');
        $d->query('with recursive c(x) as (select 1 union all select x+1 from c limit 400000) select max(x) from c'); }
    shop();
    """
    found = samples(profiled(site, code))
    assert found[f"{site.root}/app.php;shop"] >= 1


def test_the_period_is_stretched_and_weighed(site: Site) -> None:
    """PHP-03: after a second the period is ten times as long, and such a sample weighs ten: one period in all."""
    end = profiled(site, "for ($i = 0; $i < 25; $i++) { (new Work)->run(100); }")
    found = samples(end)
    assert end["profile"]["period_us"] == 10_000
    total = sum(found.values()) * 10
    assert end["ms"] * 0.6 <= total <= end["ms"] * 1.3


def test_period_setting(site: Site) -> None:
    """PHP-07: `profiler_period_ms`."""
    end = profiled(site, "Work::burn(300);", profiler_period_ms=50)
    assert end["profile"]["period_us"] == 50_000
    assert 3 <= sum(samples(end).values()) <= 9


def test_profiler_off(site: Site) -> None:
    """PHP-07: `profiler = none`."""
    assert "profile" not in profiled(site, "Work::burn(50);", profiler="none")


def test_short_records_have_small_profiles(site: Site) -> None:
    """PHP-01: the stacks of a short record are at most 8 KB; what is left out is added up as `~other`."""
    name = "f" * 200
    code = "".join(
        f"\nfunction {name}{i}() {{ $e = hrtime(true) + 3e6; while (hrtime(true) < $e) md5('x'); }}" for i in range(90)
    )
    code += "".join(f"{name}{i}();" for i in range(90))
    end = profiled(site, code, profiling_threshold_ms=60_000, profiler_period_ms=1)
    found = samples(end)
    assert len(end["profile"]["stacks"]) <= 8192
    assert found["~other"] > 0
    assert sum(found.values()) >= 100


DEEP = ("tideways_xhprof",)
CALLS = "function inner() { usleep(2000); return str_repeat('x', 50000); } function outer() { inner(); inner(); }"
CALLS += "outer();"


def deep(site: Site, headers: dict[str, str] | None = None, **settings: object) -> Any:
    """The profile of a request that the deep mode may choose, with tideways_xhprof; None without one."""
    site.configure(None, **{"profiling_threshold_ms": 0, **settings})
    server = {"HTTP_" + name.upper().replace("-", "_"): value for name, value in (headers or {}).items()}
    with site.agent() as agent:
        site.run(CODE + CALLS, extensions=DEEP, env=server)
        end = agent.one("end")
    return end.get("profile")


@pytest.fixture
def tideways() -> None:
    if len(base_options(DEEP)) == len(base_options(())):
        require("php-tideways")


@pytest.mark.usefixtures("tideways")
def test_the_deep_mode(site: Site) -> None:
    """PHP-03, PHP-05, PHP-07: `xhprof_enabled` with every request chosen: edges with calls, times and memory."""
    assert deep(site) is None
    assert deep(site, xhprof_enabled="on", xhprof_one_in=0) is None
    found = deep(site, xhprof_enabled="on", xhprof_one_in=1)
    assert found["kind"] == "xhprof"
    edges = found["edges"]
    assert edges["outer==>inner"]["ct"] == 2
    assert 4000 <= edges["outer==>inner"]["wt"] < 1_000_000
    assert {"mu", "pmu"} <= edges["outer==>inner"].keys()
    assert not any("BitvilleApm" in edge for edge in edges)
    assert {f.name: f.calls for f in profile.from_edges(edges).functions}["inner"] == 2


@pytest.mark.usefixtures("tideways")
def test_flags_of_the_deep_mode(site: Site) -> None:
    """PHP-07: `xhprof_flags`, also as the first version wrote them; CPU is never measured; `memory_tracking`."""
    on: dict[str, object] = {"xhprof_enabled": "on", "xhprof_one_in": 1}
    plain = deep(site, **on, xhprof_flags="cpu")["edges"]
    assert plain["outer==>inner"].keys() == {"ct", "wt"}
    spelled = deep(site, **on, xhprof_flags="TIDEWAYS_XHPROF_FLAGS_CPU | TIDEWAYS_XHPROF_FLAGS_MEMORY")["edges"]
    assert spelled["outer==>inner"].keys() == {"ct", "wt", "mu", "pmu"}
    # tideways 5.0.4 takes `no_builtins` and records them all the same on PHP 8.
    assert "mu" not in deep(site, **on, xhprof_flags="no_builtins")["edges"]["outer==>inner"]
    assert "mu" not in deep(site, **on, memory_tracking="off")["edges"]["outer==>inner"]


@pytest.mark.usefixtures("tideways")
def test_a_signed_header_asks_for_a_deep_profile(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """PHP-03: the header that `bitville php trigger` prints; not one of another secret, an old one, or one for ever."""
    settings: dict[str, object] = {"xhprof_enabled": "on", "xhprof_one_in": 0, "xhprof_secret": "s3cret"}
    site.configure(None, **settings)
    assert main(["php", "trigger", "--ini", str(site.ini)]) == 0
    name, _, value = capsys.readouterr().out.strip().partition(": ")

    def signed(ahead: int, secret: str) -> str:
        until = str(int(time.time()) + ahead)
        return until + "." + hmac.new(secret.encode(), b"bitville-profile " + until.encode(), "sha256").hexdigest()

    assert deep(site, headers={name: value}, **settings)["kind"] == "xhprof"
    for wrong in ("", value[:-1] + "g", signed(60, "other"), signed(-5, "s3cret"), signed(7200, "s3cret")):
        assert deep(site, headers={name: wrong}, **settings) is None
    assert deep(site, headers={name: signed(60, "")}, **{**settings, "xhprof_secret": ""}) is None
    site.configure(None, **settings)
    with site.agent() as agent:
        site.run(CALLS, extensions=DEEP, env={"HTTP_X_BITVILLE_PROFILE": value})
        assert agent.one("end")["short"] is False, "what somebody asked for is kept"


@pytest.mark.usefixtures("tideways")
def test_a_deep_profile_is_pruned(site: Site) -> None:
    """COMM-09: beyond 200 KB the heaviest functions stay, the others are one; self times still add up to the total."""
    code = "".join(f"function {'f' * 90}{i}() {{ usleep({i % 7}); }}" for i in range(900))
    code += "function all() { " + "".join(f"{'f' * 90}{i}();" for i in range(900)) + " } all(); usleep(20000);"
    site.configure(profiling_threshold_ms=0, xhprof_enabled="on", xhprof_one_in=1)
    with site.agent() as agent:
        site.run(code, extensions=DEEP)
        end = agent.one("end")
    assert end["truncated"] is True
    assert len(json.dumps(end["profile"])) < 60_000
    found = profile.from_edges(end["profile"]["edges"])
    assert "~other" in {f.name for f in found.functions}
    assert len(found.functions) <= 52
    assert sum(f.self_us or 0 for f in found.functions) == pytest.approx(found.total_us, rel=0.02)


def test_xhprof_itself(site: Site) -> None:
    """PHP-03: ext-xhprof, which a stand-in speaks for here, is used where it is loaded, with its own flags."""
    site.configure(
        profiling_threshold_ms=0, xhprof_enabled="on", xhprof_one_in=1, xhprof_flags="cpu,memory,no_builtins"
    )
    code = "function xhprof_enable($flags) { $GLOBALS['flags'] = $flags; }"
    code += "function xhprof_disable() { return ['main()==>f' => ['ct' => 1, 'wt' => $GLOBALS['flags']]]; }"
    with site.agent() as agent:
        site.run(code + f"require {str(PHP / 'listener.php')!r};", client=False)
        assert agent.one("end")["profile"] == {"kind": "xhprof", "edges": {"main()==>f": {"ct": 1, "wt": 5}}}


def test_short_processes_end_well(site: Site) -> None:
    """PHP-13: Excimer's threads are over before the process is: else a command crashes in its last microsecond."""
    site.configure(profiler_period_ms=1)
    assert {site.run("usleep(3000);").returncode for _ in range(60)} == {0}
