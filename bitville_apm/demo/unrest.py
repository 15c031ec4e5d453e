"""When the demo makes which trouble: by itself every ten minutes, and when `bitville demo --trouble` asks for one."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import attrs

from bitville_apm.demo.trouble import SECONDS, TROUBLES, Scene

FIRST_S = 360.0
"""A spike opens when there are five minutes to compare it with."""
EVERY_S = 600.0
ASK_S = 5.0
ASKED = "trouble"
"""The file below the demo's directory that names what is asked for."""


@attrs.define(eq=False)
class Unrest:
    """Ticked by the demo. `say` prints a line; `by_itself` makes the demo's own troubles as well."""

    scene: Scene
    asked: Path
    say: Callable[[str], None]
    by_itself: bool
    started: float
    _turn: int = attrs.field(default=0, init=False)
    _ends: float = attrs.field(default=0.0, init=False)
    _making: contextlib.ExitStack | None = attrs.field(default=None, init=False)

    @property
    def names(self) -> list[str]:
        """The troubles that can be made here."""
        return [name for name in TROUBLES if name != "deploy" or self.scene.releases is not None]

    def tick(self, now: float) -> None:
        """Begin what is due, end what is over; `now` is unix time."""
        if self._making is not None and now >= self._ends:
            self.end()
        name = self._wish()
        if name is None and self.by_itself and self._making is None and now >= self._due():
            name = self.names[self._turn % len(self.names)]
        if now >= self._due():  # a turn that somebody's wish has taken is over as well
            self._turn += 1
        if name is not None:
            self.end()
            self._begin(name, now)

    def end(self) -> None:
        """End what is being made."""
        making, self._making = self._making, None
        if making is not None:
            self._quietly(making.close)

    def _due(self) -> float:
        return self.started + FIRST_S + self._turn * EVERY_S

    def _wish(self) -> str | None:
        try:
            wish = self.asked.read_text().strip()
        except OSError:
            return None
        self.asked.unlink(missing_ok=True)
        return wish if wish in self.names else None

    def _begin(self, name: str, now: float) -> None:
        trouble = TROUBLES[name]
        self._ends = now + SECONDS
        making = contextlib.ExitStack()
        self._quietly(lambda: making.enter_context(trouble.make(self.scene, self._ends)))
        self._making = making
        clock = time.strftime("%H:%M:%S", time.gmtime(now))
        self.say(f"{clock} UTC  trouble for {SECONDS:g} s: {name}: {trouble.says}")

    def _quietly(self, act: Callable[[], object]) -> None:
        """A trouble that cannot be made is no reason to stop."""
        try:
            act()
        except Exception as error:  # noqa: BLE001 - SQLite's, a missing program's, a full disk's
            self.say(f"that trouble could not be made: {error}")


def ask(state: Path, name: str) -> bool:
    """Ask the demo that runs in `state` for a trouble. False when it makes none: it plays recorded traffic."""
    file = state / ASKED
    new = state / f"{ASKED}.new"
    new.write_text(name)
    new.rename(file)
    deadline = time.monotonic() + ASK_S
    while file.exists():
        if time.monotonic() > deadline:
            file.unlink(missing_ok=True)
            return False
        time.sleep(0.1)
    return True
