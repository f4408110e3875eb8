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
# Whoever waits for the answer is told first; what comes meanwhile travels along.
GATHER_S: Final = 0.005

log = telemetry.get_logger()


class HandOver:
    """Publishes until the stream has taken it; what is under way is at risk."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._gathered: list[KeptWrite] = []
        self._gathers_since = 0.0
        self._beginning: asyncio.TimerHandle | None = None
        self._sending: dict[asyncio.Task[None], tuple[float, int]] = {}
        self._at_risk = 0

    def has_room(self) -> bool:
        """Tell whether one more write may be acknowledged before the stream has it."""
        if self._at_risk >= MAX_AT_RISK:
            return False
        oldest = next(iter(self._sending.values()), (self._gathers_since, 0))[0]
        at_risk = self._sending or self._gathered
        return not at_risk or time.monotonic() - oldest < MAX_RISK_S

    def put(self, writes: Sequence[KeptWrite]) -> None:
        """Hand these over in a moment."""
        self._gathered += writes
        self._at_risk += len(writes)
        if self._beginning is None:
            self._gathers_since = time.monotonic()
            self._beginning = asyncio.get_running_loop().call_later(GATHER_S, self._begin)

    def _begin(self) -> None:
        if self._beginning is None:
            return
        self._beginning.cancel()
        self._beginning = None
        writes, self._gathered = self._gathered, []
        self._tell()
        task = asyncio.create_task(self._send(writes))
        self._sending[task] = (self._gathers_since, len(writes))
        task.add_done_callback(self._sent)

    def _sent(self, task: "asyncio.Task[None]") -> None:
        _, number = self._sending.pop(task)
        self._at_risk -= number
        self._tell()

    def _tell(self) -> None:
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
        self._begin()
        if not self._sending:
            return True
        _, late = await asyncio.wait(list(self._sending), timeout=within_s)
        return not late
