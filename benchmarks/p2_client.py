"""P2: what the PHP client costs a request when its agent is absent, when it answers, and when it hangs.

A real php-fpm with OPcache and Excimer, an installed client. `begin` is all of auto_prepend_file, taken by a file that
includes the stub between two looks at the clock. `end` is bitville_apm_end(): stop, record, encoding, hand-over,
spool. Medians and 90th percentiles of single requests, in microseconds.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bitville_apm.cli import php_files
from tests.php.peer import Agent, Fpm, Site

REQUESTS = 1500
WARM_UP = 100

PREPEND = "<?php $bv = [hrtime(true)]; include %r; $bv[] = hrtime(true);\n"
PAGE = """
$bv[] = hrtime(true);
bitville_apm_end();
$bv[] = hrtime(true);
echo json_encode([($bv[1] - $bv[0]) / 1e3, ($bv[3] - $bv[2]) / 1e3, PHP_VERSION]);
"""


@contextlib.contextmanager
def pool() -> Iterator[tuple[Fpm, Site]]:
    """One worker, so that a hung agent's deadlines are seen one after another."""
    with tempfile.TemporaryDirectory(prefix="bv") as root, tempfile.TemporaryDirectory(prefix="bv") as home:
        php_files.copy_to(Path(home) / "client", stub=False)
        measure = Path(home) / "measure.php"
        measure.write_text(PREPEND % str(Path(home) / "client" / "prepend.php"))
        site = Site(Path(root))
        site.script(PAGE, "page.php")
        # Younger files are not kept by OPcache.
        time.sleep(2.5)
        server = Fpm(Path(home), stub=measure, children=1)
        try:
            yield server, site
        finally:
            server.stop()


def measure(server: Fpm, site: Site, requests: int = REQUESTS) -> tuple[list[float], list[float]]:
    """Begin and end of each of these requests, µs."""
    page = str(site.root / "page.php")
    told = [json.loads(server.get(site, "", "/product/4711", SCRIPT_FILENAME=page).body) for _ in range(requests)]
    return [row[0] for row in told], [row[1] for row in told]


def typical(values: list[float]) -> str:
    """Median and 90th percentile."""
    return f"{statistics.median(values):6.0f} ({sorted(values)[len(values) * 9 // 10]:6.0f})"


def emptied(site: Site) -> int:
    """Files of records in the spool; it is empty afterwards, without marks of a hung agent too."""
    paths = list(site.spool.iterdir())
    for path in paths:
        path.unlink()
    return sum(path.suffix in (".json", ".ndjson") for path in paths)


def row(name: str, run: Callable[[], tuple[list[float], list[float]]]) -> tuple[float, float]:
    """Print the figures of one situation; its medians."""
    begin, end = run()
    print(f"{name:34} begin {typical(begin)}   end {typical(end)}")
    return statistics.median(begin), statistics.median(end)


def hung(server: Fpm, site: Site) -> tuple[list[float], list[float]]:
    """Ends while the agent accepts nothing and touches no heartbeat: those that waited, and those after."""
    _, ends = measure(server, site, 60)
    waited = [us / 1000 for us in ends if us > 20_000]
    return waited, [us for us in ends if us <= 20_000]


def main() -> int:
    """Print every situation, and the goal's figures last."""
    with pool() as (server, site):
        measure(server, site, WARM_UP)
        print(f"{REQUESTS} requests each, µs: median (90th percentile)")
        absent = row("no agent, short records", lambda: measure(server, site))
        emptied(site)
        site.configure(profiling_threshold_ms=0)
        whole = row("no agent, whole records", lambda: measure(server, site))
        files = emptied(site)
        site.configure()
        with Agent(site.socket):
            row("an agent that answers, short", lambda: measure(server, site))
        emptied(site)
        with Agent(site.socket, accepting=False):
            waited, after = hung(server, site)
        site.configure(profiling_enabled=0)
        off = row("switched off", lambda: measure(server, site))
        version = json.loads(server.get(site, PAGE).body)[2]
    print(f"PHP-FPM {version}, OPcache, Excimer, {os.cpu_count()} cores, {platform.machine()}; {files} files spooled")
    print(
        f"P2: no agent: begin {absent[0]:.0f} µs ({off[0]:.0f} of them also when off), end {absent[1]:.0f} µs short, "
        f"{whole[1]:.0f} µs whole; agent hung: end {', '.join(f'{ms:.1f}' for ms in waited)} ms, "
        f"then {statistics.median(after):.0f} µs"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
