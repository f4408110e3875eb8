"""Token buckets, in virtual time: the caller says what time it is."""

from typing import Final

# Less than this is nothing, or rounding could leave a bucket short at the moment it is full.
ROUNDING: Final = 1e-6


class Bucket:
    """Fills at `rate_per_s` up to `burst`; may be overdrawn, and is empty until that is paid."""

    __slots__ = ("_at", "_level", "burst", "rate_per_s")

    def __init__(self, rate_per_s: float, burst: float, *, now: float) -> None:
        self.rate_per_s = rate_per_s
        self.burst = burst
        self._level = burst
        self._at = now

    def level(self, now: float) -> float:
        """Say what is in it; a clock that steps back fills nothing."""
        return min(self._level + max(now - self._at, 0.0) * self.rate_per_s, self.burst)

    def take(self, amount: float, now: float) -> None:
        """Take an amount out; a negative one puts back what was not used."""
        self._level = min(self.level(now) - amount, self.burst)
        self._at = max(now, self._at)

    def ready_at(self, amount: float, now: float) -> float:
        """Say when that much, or all it can hold, will be in it."""
        missing = min(amount, self.burst) - self.level(now)
        return now if missing <= ROUNDING else now + missing / self.rate_per_s
