"""How much one gateway takes in at a time, and what it remembers of refusals."""

import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from octarm.models.errors import Backpressure, OctarmError

# Refusals that hold for every fresh task of the tenant until their time is over.
_LASTING: Final = frozenset({"ADMISSION_REJECTED", "QUOTA_EXCEEDED"})
JITTER: Final = 0.25


class Load:
    """Requests with a body that are under way, their bytes, and open streams; all bounded."""

    def __init__(
        self, *, max_requests: int = 2_000, max_bytes: int = 256 * 2**20, max_streams: int = 1_000
    ) -> None:
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._max_streams = max_streams
        self.requests = 0
        self.bytes = 0
        self.streams = 0

    def no_room(self, size: int) -> Backpressure | None:
        """Say that a request of at most `size` bytes is too much now; None when it is not."""
        if self.requests < self._max_requests and self.bytes + size <= self._max_bytes:
            return None
        return _full("too many requests are under way at this gateway")

    @contextmanager
    def request(self, size: int) -> Iterator[None]:
        """Count one request of at most `size` bytes while the block runs."""
        self.requests += 1
        self.bytes += size
        try:
            yield
        finally:
            self.requests -= 1
            self.bytes -= size

    def no_stream(self) -> Backpressure | None:
        """Say that one more event stream is too much now; None when it is not."""
        if self.streams < self._max_streams:
            return None
        return _full("too many event streams are open at this gateway")

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Count one event stream while the block runs."""
        self.streams += 1
        try:
            yield
        finally:
            self.streams -= 1


def _full(message: str) -> Backpressure:
    return Backpressure(message, code="QUEUE_FULL", retry_after_s=1)


class Refusals:
    """Remembers, by tenant, that fresh tasks are refused, for as long as the refusal said."""

    def __init__(
        self, monotonic: Callable[[], float], chance: Callable[[], float] = random.random
    ) -> None:
        self._monotonic = monotonic
        self._chance = chance
        self._until: dict[str, tuple[float, OctarmError]] = {}

    def learn(self, tenant: str, error: OctarmError) -> None:
        """Take note of a refusal that holds for more than one task."""
        if error.code in _LASTING and error.retry_after_s and tenant not in self._until:
            self._until[tenant] = (self._monotonic() + error.retry_after_s, error)

    def current(self, tenant: str) -> Backpressure | None:
        """Give the refusal that still holds, with what is left of its time, None for none."""
        found = self._until.get(tenant)
        if found is None:
            return None
        until, error = found
        left_s = until - self._monotonic()
        if left_s <= 0:
            del self._until[tenant]
            return None
        # Spread: those who were refused together should not come again together.
        seconds = math.ceil(left_s * (1 + JITTER * self._chance()))
        return Backpressure(error.message, error.recovery_hint, error.code, retry_after_s=seconds)
