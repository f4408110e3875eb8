"""How fast a shard has been placing of late."""

from math import exp
from typing import Final

OVER_S: Final = 30.0


class Pace:
    """Counts what was placed, the older the less; times are monotonic seconds."""

    def __init__(self) -> None:
        self._count = 0.0
        self._since: float | None = None
        self._at = 0.0

    def add(self, count: int, *, now: float) -> None:
        """Count what was placed now."""
        if self._since is None:
            self._since = self._at = now
        self._count = self._left(now) + count
        self._at = now

    def per_s(self, now: float) -> float:
        """Say how many were placed a second; 0 before the first."""
        if self._since is None:
            return 0.0
        # What has run for less than `OVER_S` has had no time to add up.
        seen_s = OVER_S * (1 - exp(-max(now - self._since, 1.0) / OVER_S))
        return self._left(now) / seen_s

    def _left(self, now: float) -> float:
        return self._count * exp(-(now - self._at) / OVER_S)
