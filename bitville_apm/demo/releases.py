"""Releases of the shop, deployed the usual way: a directory each, and a link `current` to the one that serves.

So the monitor learns of a deployment as it would on a server, from where the document root leads (PHP-18).
"""

from __future__ import annotations

import shutil
from pathlib import Path

import attrs

SHOP = Path(__file__).parent / "shop"


@attrs.define(eq=False)
class Releases:
    """Below `home`: `releases/r1`, `releases/r2`, … and `current`."""

    home: Path
    number: int = 0

    @property
    def current(self) -> Path:
        """The link."""
        return self.home / "current"

    def start(self) -> None:
        """Begin with the first, whatever was there."""
        shutil.rmtree(self.home / "releases", ignore_errors=True)
        self.number = 0
        self.deploy()

    def deploy(self) -> str:
        """The next release: a copy of the shop, then the link in one step. Returns its name."""
        self.number += 1
        name = f"r{self.number}"
        directory = self.home / "releases" / name
        shutil.copytree(SHOP, directory)
        link = self.home / "current.new"
        link.unlink(missing_ok=True)
        link.symlink_to(directory)
        link.rename(self.current)
        return name
