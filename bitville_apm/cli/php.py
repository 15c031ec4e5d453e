"""`bitville php`: where the PHP client is."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import bitville_apm


def add_to(commands: Any) -> None:
    """The command and its actions."""
    php = commands.add_parser("php", help="the PHP client")
    actions = php.add_subparsers(metavar="ACTION", required=True)
    path = actions.add_parser("path", help="print the client's folder, for auto_prepend_file = <folder>/prepend.php")
    path.set_defaults(run=_path)


def _path(given: argparse.Namespace) -> int:
    print(Path(bitville_apm.__file__).parent / "php")
    return 0
