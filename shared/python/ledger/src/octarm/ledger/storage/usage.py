"""Reads what tenants have used of the day: once for all of them, as each scheduler asks."""

import asyncio
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from octarm.common.clock import Clock
from octarm.common.storage import Pool, connected
from octarm.ledger.domain.months import first_id_of
from octarm.ledger.domain.tenants import Tenants
from octarm.models.usage import GetUsage, TenantUsage, UsageFound

FRESH_S: Final = 5.0
# A reading that took long is used for as many times longer: it never takes more than a
# twentieth of one connection.
REST: Final = 20.0

# Ids tell when a task was accepted, so the day is one range of the key.
_USED: Final = """
select t.tenant, sum(a.cost_microdollars)::bigint, sum(a.tokens_used)::bigint
from ledger.attempt a join ledger.task t on t.id = a.task_id
where a.task_id >= %s and (a.cost_microdollars > 0 or a.tokens_used > 0) group by t.tenant
"""


@dataclass(frozen=True, slots=True)
class _Reading:
    since: datetime
    at: datetime
    until_s: float
    used: dict[str, tuple[int, int]]


class PostgresUsage:
    """Answers for every tenant out of one reading, which is `fresh_s` seconds old at most.

    When a reading takes longer than a twentieth of that, it is used for longer.
    """

    def __init__(
        self, pool: Pool, tenants: Tenants, clock: Clock, *, fresh_s: float = FRESH_S
    ) -> None:
        self._pool = pool
        self._tenants = tenants
        self._clock = clock
        self._fresh_s = fresh_s
        self._reading = asyncio.Lock()
        self._known: _Reading | None = None

    async def of(self, wanted: GetUsage) -> UsageFound:
        """Say what tenants have used since midnight UTC; those that ask together share a reading.

        Raises:
            Unavailable: the database cannot be read.
        """
        async with self._reading:
            known = self._known
            since = self._clock.now().replace(hour=0, minute=0, second=0, microsecond=0)
            if known is None or known.since != since or time.monotonic() >= known.until_s:
                known = self._known = await self._read(since)
        return UsageFound(
            since=known.since,
            read_at=known.at,
            tenants=[self._usage(name, known.used.get(name, (0, 0))) for name in wanted.tenants],
        )

    async def _read(self, since: datetime) -> _Reading:
        at, began = self._clock.now(), time.monotonic()
        async with connected(self._pool) as connection:
            cursor = await connection.execute(_USED, [first_id_of(since)])
            used = {name: (cost, tokens) for name, cost, tokens in await cursor.fetchall()}
        ended = time.monotonic()
        return _Reading(since, at, ended + max(self._fresh_s, REST * (ended - began)), used)

    def _usage(self, tenant: str, used: tuple[int, int]) -> TenantUsage:
        cost, tokens = used
        most = self._tenants.of(tenant).max_in_flight
        return TenantUsage(tenant=tenant, microdollars=cost, tokens=tokens, max_in_flight=most)
