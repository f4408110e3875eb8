"""How often an arm may read: a bucket each, of this process."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from octarm.models.errors import Backpressure

MAX_BUCKETS: Final = 10_000
BURST_S: Final = 10.0


class Pace:
    """Buckets of permits that fill up evenly; of each ten seconds' worth may be taken at once."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # (tenant, arm) → permits, and when they were counted
        self._buckets: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()

    def take(self, tenant: str, arm_id: str, per_minute: int) -> None:
        """Take a permit.

        Raises:
            Backpressure: there is none now (429).
        """
        now = self._clock()
        full = max(1.0, per_minute * BURST_S / 60)
        permits, counted = self._buckets.pop((tenant, arm_id), (full, now))
        permits = min(full, permits + (now - counted) * per_minute / 60)
        self._buckets[tenant, arm_id] = (permits - 1 if permits >= 1 else permits, now)
        if len(self._buckets) > MAX_BUCKETS:
            self._buckets.popitem(last=False)
        if permits < 1:
            raise Backpressure(
                f"{arm_id} may read memory {per_minute} times a minute",
                code="RATE_LIMITED",
                retry_after_s=max(1, round((1 - permits) * 60 / per_minute)),
            )
