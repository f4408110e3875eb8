"""How an instance has fared lately, for its heartbeat."""

import time
from typing import Final

WEIGHT: Final = 0.02


class Tally:
    """Moving averages of latency and failures; each attempt weighs 2 %."""

    __slots__ = ("_since", "avg_latency_ms", "error_rate")

    def __init__(self) -> None:
        self._since = time.monotonic()
        self.avg_latency_ms = 0.0
        self.error_rate = 0.0

    def ended(self, seconds: float, *, failed: bool) -> None:
        """Count an attempt that ended."""
        ms = seconds * 1000
        first = self.avg_latency_ms == 0.0
        self.avg_latency_ms = (
            ms if first else self.avg_latency_ms + WEIGHT * (ms - self.avg_latency_ms)
        )
        self.error_rate += WEIGHT * (failed - self.error_rate)

    def uptime_s(self) -> float:
        """Give the seconds since the instance began."""
        return time.monotonic() - self._since
