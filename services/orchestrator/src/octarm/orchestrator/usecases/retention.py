"""Keep history for as long as it is wanted: next month's partitions made, old months dropped."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol

from octarm.common.clock import Clock, set_within
from octarm.common.telemetry import metrics
from octarm.common.telemetry.logs import get_logger
from octarm.ledger.domain.months import Month, gaps
from octarm.models.errors import OctarmError

EVERY_S: Final = 3600.0
AGAIN_S: Final = 60.0
PAUSE_S: Final = 0.05
# Each waits for the tables, or for other replicas that start as well, for half a second.
TRIES_AT_START: Final = 3

log = get_logger()


class Partitions(Protocol):
    """The history by month; everything may be repeated."""

    async def months(self) -> list[Month]:
        """List the months that have partitions."""
        ...

    async def create(self, month: Month) -> bool:
        """Make a month's partitions; false when it has them or cannot have them."""
        ...

    async def in_use(self, month: Month, *, days: int) -> bool:
        """Tell whether a task of the month is open, young, or needed."""
        ...

    async def forget(self, month: Month) -> int:
        """Delete some of the month's tasks; 0 when none is left."""
        ...

    async def forget_odd(self, first: str, last: str, *, days: int) -> int:
        """Delete some old tasks of a range that has no partition, with all their rows."""
        ...

    async def drop(self, month: Month) -> bool:
        """Drop a month's partitions."""
        ...


@dataclass(frozen=True, slots=True)
class KeepRetention:
    """Looks every hour after what is to come and what is to go."""

    partitions: Partitions
    clock: Clock
    days: int

    async def run(self, stop: asyncio.Event) -> None:
        """Look until `stop` is set; what fails is tried again in a minute."""
        while not stop.is_set():
            wait_s = EVERY_S
            try:
                await self.make_months()
                await self.retire(stop)
            except OctarmError as error:
                log.warning("retention_put_off", error=error.message)
                wait_s = AGAIN_S
            await set_within(stop, wait_s)

    async def prepare(self) -> None:
        """Make the partitions before the first task comes; what fails is left to `run`."""
        for _ in range(TRIES_AT_START):
            try:
                await self.make_months()
            except OctarmError as error:
                log.warning("months_not_made", error=error.message)
            else:
                return

    async def make_months(self) -> None:
        """Make the partitions of this month and the next.

        Raises:
            Unavailable: the ledger is away, or too busy to be locked.
        """
        this = Month.of(self.clock.now())
        known = await self.partitions.months()
        for month in (this, this.following):
            if month not in known and await self.partitions.create(month):
                log.info("month_made", month=month.name)

    async def retire(self, stop: asyncio.Event) -> None:
        """Drop each month whose tasks all ended long ago, and what old tasks lie between.

        Raises:
            Unavailable: the ledger is away, or too busy to be locked.
        """
        oldest = Month.of(self.clock.now() - timedelta(days=self.days))
        known = [month for month in await self.partitions.months() if month < oldest]
        for month in known:
            if await self.partitions.in_use(month, days=self.days):
                log.info("month_kept", month=month.name, why="a task is open, young or needed")
                continue
            while not stop.is_set() and (gone := await self.partitions.forget(month)):
                await _pause(stop, gone)
            if not stop.is_set() and await self.partitions.drop(month):
                log.info("month_dropped", month=month.name)
        for first, last in gaps(known, until=oldest):
            while not stop.is_set():
                gone = await self.partitions.forget_odd(first, last, days=self.days)
                if not gone:
                    break
                await _pause(stop, gone)


async def _pause(stop: asyncio.Event, gone: int) -> None:
    """Count, and let others at the database."""
    metrics.inc("octarm_orchestrator_tasks_retired_total", gone)
    await set_within(stop, PAUSE_S)
