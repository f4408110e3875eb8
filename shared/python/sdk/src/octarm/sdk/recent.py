"""The results of the last attempts, so that a redelivered command is answered, not run again."""

from collections import OrderedDict
from typing import Final

from octarm.common.bus.publisher import Outgoing

Key = tuple[str, int]
MAX_RESULTS: Final = 10_000
MAX_BYTES: Final = 64 * 1024 * 1024


class RecentResults:
    """Keeps the newest results, at most `max_results` of them and `max_bytes` together."""

    def __init__(self, max_results: int = MAX_RESULTS, max_bytes: int = MAX_BYTES) -> None:
        self._max_results = max_results
        self._max_bytes = max_bytes
        self._bytes = 0
        # A plain dictionary would walk over all that were taken out before to find the oldest.
        self._results: OrderedDict[Key, Outgoing] = OrderedDict()

    def put(self, key: Key, message: Outgoing) -> None:
        """Remember the result of an attempt, which has only one."""
        self._results[key] = message
        self._bytes += len(message.payload)
        while len(self._results) > self._max_results or self._bytes > self._max_bytes:
            _, oldest = self._results.popitem(last=False)
            self._bytes -= len(oldest.payload)

    def get(self, key: Key) -> Outgoing | None:
        """Give the result of an attempt that finished not long ago."""
        return self._results.get(key)


class CalledOff:
    """Attempts cancelled before their command came, the newest `limit` of them."""

    def __init__(self, limit: int = 1000) -> None:
        self._limit = limit
        self._reasons: dict[Key, str] = {}

    def put(self, key: Key, reason: str) -> None:
        """Remember that this attempt is not to be started."""
        self._reasons[key] = reason
        if len(self._reasons) > self._limit:
            del self._reasons[next(iter(self._reasons))]

    def pop(self, key: Key) -> str | None:
        """Give the reason once, None when the attempt was not called off."""
        return self._reasons.pop(key, None)
