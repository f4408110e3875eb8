"""Hand writes that were acknowledged fast to the stream, in the background."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from octarm.common import telemetry
from octarm.common.telemetry import metrics
from octarm.memory.usecases.ports import Stream
from octarm.models.errors import OctarmError
from octarm.models.hot_episodes import KeptWrite

# What a fast write risks: it is lost when the process dies before the stream has it. Neither more
# nor older ones than these are at risk; past that a write waits for the stream like a durable one.
MAX_AT_RISK: Final = 10_000
MAX_RISK_S: Final = 1.0
AGAIN_AFTER_S: Final = 0.2

log = telemetry.get_logger()


class HandOver:
    """Publishes until the stream has taken it; what is under way is at risk."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._sending: dict[asyncio.Task[None], tuple[float, int]] = {}
        self._at_risk = 0

    def has_room(self) -> bool:
        """Tell whether one more write may be acknowledged before the stream has it."""
        if self._at_risk >= MAX_AT_RISK:
            return False
        for since, _ in self._sending.values():
            return time.monotonic() - since < MAX_RISK_S
        return True

    def put(self, writes: Sequence[KeptWrite]) -> None:
        """Begin to hand these over."""
        task = asyncio.create_task(self._send(writes))
        self._sending[task] = (time.monotonic(), len(writes))
        self._count(len(writes))
        task.add_done_callback(self._sent)

    def _sent(self, task: "asyncio.Task[None]") -> None:
        _, number = self._sending.pop(task)
        self._count(-number)

    def _count(self, number: int) -> None:
        self._at_risk += number
        metrics.put("octarm_memory_writes_at_risk", self._at_risk)

    async def _send(self, writes: Sequence[KeptWrite]) -> None:
        while True:
            try:
                await self._stream.keep(writes)
                return
            except OctarmError as error:
                log.warning("writes_not_handed_over", writes=len(writes), error=error.message)
                if not error.retryable:
                    return
            await asyncio.sleep(AGAIN_AFTER_S)

    async def settled(self, within_s: float) -> bool:
        """Wait until the stream has all that was put before; false when that takes longer."""
        if not self._sending:
            return True
        _, late = await asyncio.wait(list(self._sending), timeout=within_s)
        return not late
