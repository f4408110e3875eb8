"""A limit on beats, kept before anything is parsed."""

from typing import Final

MAX_TRACKED: Final = 20_000


class FloodGuard:
    """Lets each subject pass `rate` times a second, with as many at once as `burst`.

    Above `MAX_TRACKED` subjects it starts afresh: its memory is bounded, and forgetting
    only means that a flood may pass `burst` more.
    """

    def __init__(self, *, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._buckets: dict[str, tuple[float, float]] = {}

    def admits(self, subject: str, now: float) -> bool:
        """Take one token of the subject's bucket; false when it is empty (`now`: monotonic s)."""
        tokens, at = self._buckets.get(subject, (self._burst, now))
        tokens = min(self._burst, tokens + (now - at) * self._rate)
        admitted = tokens >= 1
        if len(self._buckets) >= MAX_TRACKED and subject not in self._buckets:
            self._buckets.clear()
        self._buckets[subject] = (tokens - 1 if admitted else tokens, now)
        return admitted
