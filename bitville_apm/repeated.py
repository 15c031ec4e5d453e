"""A failure that happens over and over is logged once a minute, with how often it happened (DAEMON-14)."""

from __future__ import annotations

import attrs

from bitville_apm import limits


@attrs.define
class Repeated:
    """What has been said of each kind of failure. Time is monotonic seconds."""

    _said: dict[str, float] = attrs.Factory(dict)
    _unsaid: dict[str, int] = attrs.Factory(dict)

    def due(self, kind: str, now: float, n: int = 1) -> int:
        """Count `n` failures of a kind: how many to speak of now, 0 while it is too early to speak again."""
        count = self._unsaid.get(kind, 0) + n
        last = self._said.get(kind)
        if last is not None and now - last < limits.REPEATED_S:
            self._unsaid[kind] = count
            return 0
        for old in [k for k, said in self._said.items() if now - said >= limits.REPEATED_S]:
            del self._said[old]
            self._unsaid.pop(old, None)
        self._said[kind] = now
        return count
