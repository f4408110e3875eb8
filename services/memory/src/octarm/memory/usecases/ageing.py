"""Delete what is old, a little at a time."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from octarm.common import telemetry
from octarm.common.clock import set_within
from octarm.common.telemetry import metrics
from octarm.memory.usecases.ports import Ageing
from octarm.models.errors import OctarmError

FORGET_EVERY_S: Final = 3600.0
FORGET_PAUSE_S: Final = 0.1

log = telemetry.get_logger()


@dataclass(frozen=True, slots=True)
class ForgetOld:
    """Delete what is older than the days of its class, a batch at a time, once an hour."""

    kept: Ageing
    days: Mapping[str, int]
    counter: str = "octarm_memory_episodes_forgotten_total"

    async def run(self, stop: asyncio.Event) -> None:
        """Look until `stop` is set; what fails is tried again with the next look."""
        while not stop.is_set():
            try:
                for retention, days in self.days.items():
                    await self._forget(stop, retention, days)
                await self.kept.sweep()
            except OctarmError as error:
                log.warning("old_rows_not_forgotten", error=error.message)
            await set_within(stop, FORGET_EVERY_S)

    async def _forget(self, stop: asyncio.Event, retention: str, days: int) -> None:
        while not stop.is_set():
            gone = await self.kept.forget(days=days, retention=retention)
            if not gone:
                return
            metrics.inc(self.counter, gone)
            await set_within(stop, FORGET_PAUSE_S)
