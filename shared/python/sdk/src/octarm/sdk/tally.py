"""How an instance has fared lately, for its heartbeat."""

import asyncio
import time
from bisect import bisect_left
from typing import Final

from octarm.common.telemetry import metrics, tracing

WEIGHT: Final = 0.02
COUNT_S: Final = 0.02


class Tally:
    """Moving averages of latency and failures.

    Each attempt weighs 2 %; of the latency the first fifty weigh the same, so that a slow first
    one does not stay for long. The process's metrics are told within 20 ms: counting many at once
    costs half.
    """

    __slots__ = (
        "_ended",
        "_failed",
        "_since",
        "_timer",
        "_took",
        "_traced",
        "avg_latency_ms",
        "error_rate",
    )

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._took: list[float] = []
        self._traced: dict[int, tuple[float, str]] = {}
        self._ended = self._failed = 0
        self._timer: asyncio.TimerHandle | None = None
        self.avg_latency_ms = 0.0
        self.error_rate = 0.0

    def ended(self, seconds: float, *, failed: bool, traceparent: str = "") -> None:
        """Count an attempt that ended; on the event loop."""
        bucket = bisect_left(metrics.SECONDS, seconds) if tracing.is_sampled(traceparent) else -1
        if bucket < 0 or bucket in self._traced:
            self._took.append(seconds)
        else:
            # A bucket keeps one exemplar: of those told together, the first.
            self._traced[bucket] = (seconds, traceparent)
        self._failed += failed
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(COUNT_S, self.flush)
        self._ended += 1
        weight = max(WEIGHT, 1 / self._ended)
        self.avg_latency_ms += weight * (seconds * 1000 - self.avg_latency_ms)
        self.error_rate += WEIGHT * (failed - self.error_rate)

    def flush(self) -> None:
        """Tell the metrics what they do not know yet."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        took, self._took = self._took, []
        traced, self._traced = self._traced, {}
        failed, self._failed = self._failed, 0
        for seconds in took:
            metrics.observe("octarm_arm_attempt_seconds", seconds)
        for seconds, traceparent in traced.values():
            metrics.observe("octarm_arm_attempt_seconds", seconds, traceparent=traceparent)
        ended = len(took) + len(traced)
        for status, number in (("success", ended - failed), ("failure", failed)):
            if number:
                metrics.inc("octarm_arm_attempts_total", number, status=status)

    def uptime_s(self) -> float:
        """Give the seconds since the instance began."""
        return time.monotonic() - self._since
