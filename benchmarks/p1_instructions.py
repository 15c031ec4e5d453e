"""P1 by parts: the instructions that the PHP client adds to a page of WordPress and of MediaWiki, by valgrind.

Wall time and CPU of a page depend on what else the machine does; its instructions in user space hardly do.
So this tells what a part costs, and whether a change helped, also where the machine is busy. It does not tell of the
kernel's work (the socket, Excimer's thread for each tick) nor of caches that the page has emptied, which is why its
percentages are below those of p1_overhead.py. MediaWiki's own pages vary by some percent, WordPress' by none.

    python -m benchmarks.p1_instructions [--pages 3]
"""

from __future__ import annotations

import argparse
import contextlib
import re
import shlex
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from bitville_apm.cli import php_files
from tests.php import databases
from tests.php.applications import HOST, Application
from tests.php.mediawiki import MediaWiki
from tests.php.peer import Fpm, Response, Site
from tests.php.wordpress import WordPress

WARM_UP = 4
SLOW_S = 300
"""Under valgrind a page takes fifty times as long."""

# Nothing is left out for being slow, and no tick comes within a page.
WHOLE = {"profiling_threshold_ms": 3600000, "profiler_period_ms": 1000}
WAYS: dict[str, dict[str, object] | None] = {
    "without": None,
    "switched off": {"profiling_enabled": 0},
    "begin and end": {**WHOLE, "profiler": "none", "sql_capture_enabled": 0},
    "and statements": {**WHOLE, "profiler": "none"},
    "and Excimer's timers": WHOLE,
}


@contextlib.contextmanager
def pool(application: Application, stub: Path | None, site: Site) -> Iterator[tuple[Fpm, Path]]:
    """A pool of one worker under callgrind, which writes what it counted when the next request begins."""
    with tempfile.TemporaryDirectory(prefix="bv", ignore_cleanup_errors=True) as name:
        root = Path(name)
        command = ["valgrind", "-q", "--tool=callgrind", "--dump-before=php_request_startup"]
        counting = root / "counting"
        counting.write_text(f'#!/bin/sh\nexec {shlex.join(command)} --callgrind-out-file={root}/counted.%p "$@"\n')
        counting.chmod(0o755)
        client = stub is not None
        fpm = Fpm(root, client, stub or root, extensions=application.extensions, children=1, run_by=str(counting))
        try:
            yield fpm, root
        finally:
            fpm.stop()


def counted(
    application: Application, stub: Path, settings: Mapping[str, object] | None, pages: int, uri: str, **parameters: str
) -> list[int]:
    """Instructions of each of so many warm pages."""
    with tempfile.TemporaryDirectory(prefix="bv", ignore_cleanup_errors=True) as name:
        site = Site(Path(name))
        site.configure(None, **(settings or {}))
        with site.agent(), pool(application, None if settings is None else stub, site) as (fpm, root):
            # One more: each is written out when the next begins.
            for _ in range(WARM_UP + pages + 1):
                with fpm.open(site, "", uri, **parameters) as connection:
                    connection.settimeout(SLOW_S)
                    answer = Response.of(b"".join(iter(lambda: connection.recv(1 << 16), b"")))
                assert answer.status == 200, answer.status
                time.sleep(0.5)
            found = sorted(root.glob("counted.*.*"), key=lambda path: int(path.suffix[1:]))
            texts = [path.read_text() for path in found[-pages:]]
    totals = [re.search(r"^(?:totals|summary): (\d+)", text, re.MULTILINE) for text in texts]
    return [int(match[1]) for match in totals if match]


def compare(name: str, application: Application, stub: Path, pages: int, uri: str, **more: str) -> str:
    """Print what each part adds to this page; what all of them add."""
    parameters = {
        "SCRIPT_FILENAME": f"{application.home}/index.php",
        "SCRIPT_NAME": "/index.php",
        "HTTP_HOST": HOST,
        "SERVER_NAME": HOST,
        **more,
    }
    base = before = 0.0
    told = ""
    for way, settings in WAYS.items():
        got = statistics.fmean(counted(application, stub, settings, pages, uri, **parameters)) / 1e6
        base, before = base or got, before or got
        told = f"{name} {100 * (got - base) / base:+.2f} %"
        print(f"{name:10} {way:22} {got:8.2f} million  {told.split()[1]:>6} % in all, {got - before:+.2f} million more")
        before = got
    return told


def main() -> int:
    """Print every part for both applications, and the sums last."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--pages", type=int, default=3)
    pages = arguments.parse_args().pages
    if shutil.which("valgrind") is None:
        print("P1 by parts: not measured, valgrind is missing (apt install valgrind)")
        return 0
    with tempfile.TemporaryDirectory(prefix="bv") as name:
        client = Path(name) / "client"
        php_files.copy_to(client, stub=False)
        # Younger files are not kept by OPcache.
        time.sleep(2.5)
        stub = client / "prepend.php"
        with databases.mysql() as database, databases.application(WordPress, database) as blog:
            told = [compare("WordPress", blog, stub, pages, "/")]
        with databases.postgres() as database, databases.application(MediaWiki, database) as wiki:
            uri, settings = "/index.php?title=Main_Page", str(wiki.settings)
            told.append(compare("MediaWiki", wiki, stub, pages, uri, MW_CONFIG_FILE=settings))
    print(f"P1 by parts, instructions in user space: {', '.join(told)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
