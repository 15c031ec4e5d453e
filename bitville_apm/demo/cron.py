"""The shop's night work: once a minute here, so that a request of the command line is there to be seen."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence

import attrs

EVERY_S = 60.0


@attrs.define(eq=False)
class Cron:
    """Ticked by the demo. Without a command (no PHP for the command line) it does nothing."""

    command: Sequence[str] | None
    environment: Mapping[str, str]
    _due: float = 0.0
    _job: subprocess.Popen[bytes] | None = None

    def tick(self, now: float) -> None:
        """Start the job when it is due and the last one has ended; `now` is monotonic."""
        if self.command is None or now < self._due or (self._job is not None and self._job.poll() is None):
            return
        self._due = now + EVERY_S
        self._job = subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=dict(self.environment),
        )

    def stop(self) -> None:
        """End it, if it runs."""
        if self._job is not None:
            self._job.terminate()
            self._job.wait()
