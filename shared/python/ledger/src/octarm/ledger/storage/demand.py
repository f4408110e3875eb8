"""Reads how much work there is: once for all arms, as whoever scales them asks for each."""

import asyncio
import json
import time
from typing import Final

from octarm.common.storage import Pool, connected
from octarm.ledger.domain.demand import Queued, Work, demand_of
from octarm.ledger.storage.listed import QUEUED
from octarm.models.scaling import ArmDemand, GetDemand

# Nobody wants more instances than this is enough for; a ledger takes 0.5 s to read so many.
MOST: Final = 100_000
FRESH_S: Final = 2.0

# A contract leaves out what has its default.
_QUEUED: Final = f"""
with queued as (select contract from ledger.task t where {QUEUED} limit %(most)s)
select it.assigned_arm, it.required_capabilities::text, sum(coalesce(it.slots, 1))::bigint,
    count(*)
from queued, json_to_record(contract)
    as it(assigned_arm text, required_capabilities json, slots int)
group by 1, 2
"""
# Whatever is under way has a lease, the cancelled that nobody has seen stop among them.
_RUNNING: Final = """
select arm_id, sum(coalesce((contract ->> 'slots')::int, 1))::bigint from ledger.task
where lease_until is not null and arm_id is not null
    and state in ('dispatched', 'running', 'validating')
group by arm_id
"""


class PostgresDemand:
    """Answers for every arm out of one reading, which is `fresh_s` seconds old at most."""

    def __init__(self, pool: Pool, *, most: int = MOST, fresh_s: float = FRESH_S) -> None:
        self._pool = pool
        self._most = most
        self._fresh_s = fresh_s
        self._reading = asyncio.Lock()
        self._work: Work | None = None
        self._read_at = 0.0

    async def of(self, arm: GetDemand) -> ArmDemand:
        """Say how much work there is for an arm; those that ask together share a reading."""
        async with self._reading:
            if self._work is None or time.monotonic() - self._read_at >= self._fresh_s:
                self._work = await self._read()
                self._read_at = time.monotonic()
            return demand_of(arm, self._work)

    async def _read(self) -> Work:
        async with connected(self._pool) as connection:
            queued = await (await connection.execute(_QUEUED, {"most": self._most})).fetchall()
            running = await (await connection.execute(_RUNNING)).fetchall()
        return Work(
            queued=tuple(
                Queued(arm, frozenset(json.loads(needs or "[]")), slots)
                for arm, needs, slots, _ in queued
            ),
            running=dict(running),
            capped=sum(row[3] for row in queued) >= self._most,
        )
