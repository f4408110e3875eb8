"""Until when the provider that an instance calls wants no requests."""

import time
from collections.abc import Callable
from typing import Final

LONGEST_S: Final = 86_400.0


class Throttle:
    """Keeps the longest wait that was asked for; `changed` is called when it has grown."""

    def __init__(
        self, changed: Callable[[], None], *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._changed = changed
        self._monotonic = monotonic
        self._until = 0.0

    def put(self, retry_after_s: float) -> None:
        """Take that the provider wants nothing for that many seconds (≤ a day)."""
        until = self._monotonic() + min(retry_after_s, LONGEST_S)
        if until > self._until:
            self._until = until
            self._changed()

    def left_s(self) -> float:
        """Say how many seconds of it are left."""
        return max(0.0, self._until - self._monotonic())
