"""How fast a shard has been placing of late."""

from collections import deque
from math import exp
from typing import Final

OVER_S: Final = 30.0
MINUTE_S: Final = 60


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


class Minute:
    """Counts what happened within the last minute, to the second."""

    def __init__(self) -> None:
        self._seconds: deque[list[int]] = deque(maxlen=MINUTE_S + 1)

    def add(self, count: int, *, now: float) -> None:
        """Count what happened now."""
        seconds, second = self._seconds, int(now)
        if seconds and seconds[-1][0] == second:
            seconds[-1][1] += count
        else:
            seconds.append([second, count])

    def count(self, now: float) -> int:
        """Say how much it was."""
        since = int(now) - MINUTE_S
        return sum(count for second, count in self._seconds if second > since)
