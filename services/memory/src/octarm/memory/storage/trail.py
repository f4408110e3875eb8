"""The trail of reads and refusals: gathered for a moment, then written together."""

import asyncio
from collections import deque
from itertools import groupby
from typing import Final

from octarm.common import telemetry
from octarm.common.clock import set_within
from octarm.common.storage.connections import Pool
from octarm.common.telemetry import metrics
from octarm.memory.storage.audit import insert_audit
from octarm.memory.storage.walls import behind_wall
from octarm.memory.usecases.knowledge import Audited
from octarm.models.errors import OctarmError

GATHER_S: Final = 0.5
# What waits while Postgres is away; older entries are dropped, and counted.
MAX_WAITING: Final = 20_000
AT_ONCE: Final = 500

log = telemetry.get_logger()


class AuditTrail:
    """Writes what was noted within half a second, and the rest at the end."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._waiting: deque[Audited] = deque()

    def note(self, entry: Audited) -> None:
        """Note one; never waits."""
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.popleft()
            metrics.inc("octarm_memory_audit_dropped_total")
        self._waiting.append(entry)

    async def run(self, stop: asyncio.Event) -> None:
        """Write until `stop` is set, and what waits then."""
        while not stop.is_set():
            await set_within(stop, GATHER_S)
            await self.flush()

    async def settle(self) -> None:
        """Wait until what any replica had noted is written, if Postgres answers."""
        await asyncio.sleep(2 * GATHER_S)
        await self.flush()

    async def flush(self) -> None:
        """Write what waits; what cannot be written now goes on waiting."""
        while self._waiting:
            some = [self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))]
            try:
                await self._write(some)
            except OctarmError as error:
                self._waiting.extendleft(reversed(some))
                log.warning("audit_not_written", error=error.message)
                return

    async def _write(self, entries: list[Audited]) -> None:
        in_order = sorted(entries, key=lambda one: (one.tenant, one.at))
        for tenant, its in groupby(in_order, key=lambda one: one.tenant):
            async with behind_wall(self._pool, tenant) as connection:
                await insert_audit(connection, list(its))
