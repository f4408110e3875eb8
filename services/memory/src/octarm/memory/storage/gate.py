"""Whether Redis may be used, and which of its episodes may be trusted.

A write that Redis missed makes what it has there wrong, and nobody can tell it so while it does not
answer. So every episode in Redis bears the epoch in which it was written, and only those of the
present one count. A new epoch begins when a memory process starts, and when one that had lost
touch with Redis has found it again; the other processes hear of both.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from octarm.common import telemetry
from octarm.common.clock import set_within
from octarm.common.telemetry import metrics
from octarm.memory.usecases.ports import FrontDown
from octarm.models.episodes import FrontRenewed
from octarm.models.errors import OctarmError

LOOK_EVERY_S: Final = 0.5
# While another process has no Redis, ours is not asked either: it does not hear of all writes.
DISTRUST_S: Final = 2.0

log = telemetry.get_logger()


class Epochs(Protocol):
    """Where epochs are counted, for all memory processes together."""

    async def renew(self) -> int:
        """Begin a new epoch and tell the others. Raises `OctarmError`."""
        ...

    async def say_lost(self, epoch: int) -> None:
        """Tell the others that this process misses writes. Raises `OctarmError`."""
        ...


class Gate:
    """Closed at first and after each failure, until `ping` is answered and an epoch has begun."""

    def __init__(self, epochs: Epochs, ping: Callable[[], Awaitable[object]]) -> None:
        self._epochs = epochs
        self._ping = ping
        self._closed = asyncio.Event()
        self._closed.set()
        self._woken = asyncio.Event()
        self._not_before = 0.0
        self.epoch = 0
        self.clear: list[bytes] = []
        """Keys that could not be deleted."""

    def check(self) -> None:
        """
        Raises:
            FrontDown: Redis is not to be asked now.
        """
        if not self.is_open():
            raise FrontDown

    def is_open(self) -> bool:
        """Tell whether Redis may be asked now."""
        return not self._closed.is_set() and time.monotonic() >= self._not_before

    def lost(self, error: BaseException) -> None:
        """Take note that a call failed: what Redis has may be old from now on."""
        if not self._closed.is_set():
            log.warning("redis_does_not_answer", error=str(error) or type(error).__name__)
            metrics.put("octarm_memory_degraded", 1)
            self._closed.set()
            self._woken.set()

    def hear(self, news: FrontRenewed) -> None:
        """Follow what another process has told."""
        self.epoch = max(self.epoch, news.epoch)
        if not news.usable:
            self._not_before = time.monotonic() + DISTRUST_S

    async def open(self) -> bool:
        """Try to use Redis (again); tells whether that may be done."""
        try:
            await self._ping()
            epoch = await self._epochs.renew()
        except (FrontDown, OctarmError):
            return False
        self.epoch = max(self.epoch, epoch)
        self._closed.clear()
        metrics.put("octarm_memory_degraded", 0)
        log.info("redis_is_in_front", epoch=epoch)
        return True

    async def run(self, stop: asyncio.Event) -> None:
        """Look for a Redis that was lost until `stop` is set."""
        while not stop.is_set():
            if self._closed.is_set():
                await self._mend()
                await set_within(stop, LOOK_EVERY_S)
            else:
                await set_within(self._woken, LOOK_EVERY_S)
                self._woken.clear()

    async def _mend(self) -> None:
        try:
            await self._epochs.say_lost(self.epoch)
        except OctarmError as error:
            log.warning("loss_of_redis_not_told", error=error.message)
        await self.open()
