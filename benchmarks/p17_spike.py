"""P17: what is known of a host under 20 and 80 CPU burners a core, beside a real php-fpm pool.

The agent has the weight that its unit ships with, where the kernel lets us. Nine pages in ten are short.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from pathlib import Path

from tests.faults.tools import spike
from tests.php.peer import Fpm, Site

SECONDS = 60
WORKERS = 40


def measure(a_core: int) -> spike.Outcome:
    """One spike, with everything new."""
    prefix = "bv"  # a socket's path is short
    with tempfile.TemporaryDirectory(prefix=prefix) as root, tempfile.TemporaryDirectory(prefix=prefix) as home:
        server = Fpm(Path(home), children=WORKERS)
        try:
            directory = Path(home) / "agent"
            return spike.run(directory, Site(Path(root)), server, a_core * (os.cpu_count() or 1), SECONDS)
        finally:
            server.stop()


def main() -> int:
    """Print both loads, and the goal's figures last."""
    print(
        f"Python {platform.python_version()}, Linux {platform.release()}, {os.cpu_count()} cores, "
        f"{WORKERS} PHP workers, {spike.VISITORS} visitors, {SECONDS} s"
    )
    figures = []
    for a_core in (20, 80):
        found = measure(a_core)
        agent = "the agent at its weight" if found.weighted else "no weights"
        print(f"{a_core} burners a core, {agent}: {found.told()}")
        found.judge()
        whole = len(found.pages.whole & set(found.stored)) / (len(found.pages.whole) or 1)
        figures.append(
            f"{a_core} a core: {found.made - found.missing} of {found.made} pages counted, "
            f"{found.unconfirmed / found.made:.2%} unconfirmed, {whole:.2%} of the slow ones whole, "
            f"{found.looked:.1%} of the looks"
        )
    print(f"P17: {'; '.join(figures)}".replace("%", " %"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
