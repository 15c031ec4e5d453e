"""Excimer's samples in the record."""

from __future__ import annotations

import json
from typing import Any

import pytest

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


def stacks(site: Site, call: str) -> Any:
    """The result of one static call on Stacks."""
    code = (
        f"require {json.dumps(str(PHP / 'src' / 'Limits.php'))}; require {json.dumps(str(PHP / 'src' / 'Stacks.php'))};"
    )
    return json.loads(site.run(code + f"echo json_encode({call});", client=False).stdout)


def test_pruned_to_the_heaviest_functions(site: Site) -> None:
    """COMM-09: a profile is cut to the stacks that end in its heaviest functions; the total stays."""
    lines = 'array_map(function ($i) { return "app.php;main;f$i " . $i; }, range(1, 200))'
    text = stacks(site, f'BitvilleApm\\Stacks::heaviest(implode("\\n", {lines}), 50, 100000)')
    found = {line.rpartition(" ")[0]: int(line.rpartition(" ")[2]) for line in text.splitlines()}
    assert len(found) == 51
    assert "app.php;main;f200" in found
    assert "app.php;main;f150" not in found
    assert sum(found.values()) == sum(range(1, 201))


def test_short_processes_end_well(site: Site) -> None:
    """PHP-13: Excimer's threads are over before the process is: else a command crashes in its last microsecond."""
    site.configure(profiler_period_ms=1)
    assert {site.run("usleep(3000);").returncode for _ in range(60)} == {0}
