"""`bitville backup`: a copy of the collector's data while the collector runs."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import datetime, timezone
from pathlib import Path

from bitville_apm.cli import inis, keyring
from bitville_apm.store.sqlite import backup


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The parser of `bitville backup`."""
    parser = commands.add_parser(
        "backup",
        help="copy the collector's data while it runs",
        description="Copies every day and main.db into a new folder, verifies each copy, and prints the folder. "
        "To restore: stop the collector, put the files of one folder into an empty data directory, start it.",
    )
    parser.add_argument("--to", type=Path, metavar="DIR", help=f"where (default: {backup.FOLDER}/ in [collector] data)")
    inis.add_options(parser, "collector.ini")
    parser.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> int:
    settings = inis.collector(given)
    data = settings.collector.data
    with keyring.opened(settings):
        pass  # says so where no collector has run, or somebody else's
    shown = sys.stderr.isatty()

    def tell(name: str, share: float) -> None:
        if shown:
            print(f"\r{name}  {share:4.0%} ", end="", file=sys.stderr, flush=True)

    try:
        made = backup.back_up(data, given.to or data / backup.FOLDER, datetime.now(timezone.utc), tell)
    finally:
        if shown:
            print(file=sys.stderr)
    if given.json:
        print(json.dumps({"folder": made.folder, "files": made.files}))
        return 0
    for name, size in made.files.items():
        print(f"{name}  {size / 2**20:.1f} MiB, verified")
    print(made.folder)
    return 0
