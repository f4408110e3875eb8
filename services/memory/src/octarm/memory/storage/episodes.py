"""Episodes in Postgres, in the schema `memory`."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import psycopg

from octarm.common.storage.arrays import Texts, packed
from octarm.common.storage.connections import Pool
from octarm.memory.domain.episode import Episode
from octarm.memory.storage.errors import postgres_errors

_ADD: Final = """
insert into memory.episode (tenant, episode_id, arm_id, created_at, body)
select unnest(%b::text[]), unnest(%b::text[]), unnest(%b::text[]),
    unnest(%b::text[])::timestamptz, unnest(%b::text[])::json
"""
_ADD_MISSING: Final = _ADD + "on conflict do nothing"

_GET: Final = """
select tenant, episode_id, arm_id, created_at::text, body::text
from memory.episode where tenant = %s and episode_id = %s
"""

_FIND: Final = """
select tenant, episode_id, arm_id, created_at::text, body::text
from memory.episode where {conditions}
order by episode_id desc
limit %(limit)s
"""

# By place: the rows of a batch lie side by side, and another replica takes the next ones.
_FORGET: Final = """
delete from memory.episode where ctid = any(array(
    select ctid from memory.episode where created_at < now() - make_interval(days => %s)
    limit 2000 for update skip locked))
"""


class PostgresEpisodes:
    """Keeps episodes in the table `memory.episode`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def add(self, episodes: Sequence[Episode]) -> Mapping[str, str]:
        """Keep these in one statement; gives id → reason for those that Postgres refuses."""
        try:
            await self._insert(episodes)
        except psycopg.DataError:
            return await self._add_singly(episodes)
        return {}

    async def _add_singly(self, episodes: Sequence[Episode]) -> Mapping[str, str]:
        """Find out which ones spoil the batch; this is rare, so it may be slow."""
        refused: dict[str, str] = {}
        for episode in episodes:
            try:
                await self._insert([episode])
            except psycopg.DataError as error:
                refused[episode.episode_id] = str(error).splitlines()[0]
        return refused

    async def _insert(self, episodes: Sequence[Episode]) -> None:
        rows = ((e.tenant, e.episode_id, e.arm_id, e.created_at, e.body) for e in episodes)
        columns = packed([Texts] * 5, rows)
        with postgres_errors():
            async with self._pool.connection() as connection:
                try:
                    await connection.execute(_ADD, columns)
                except psycopg.errors.UniqueViolation:
                    # Looking for what is there before each row costs more than meeting it once.
                    await connection.execute(_ADD_MISSING, columns)

    async def get(self, tenant: str, episode_id: str) -> Episode | None:
        """Give a tenant's episode."""
        rows = await self._rows(_GET, (tenant, episode_id))
        return rows[0] if rows else None

    async def find(
        self,
        tenant: str,
        *,
        arm_id: str | None,
        episode_id: str | None,
        after: str | None,
        limit: int,
    ) -> list[Episode]:
        """Give a tenant's episodes by id, descending, from below `after`."""
        asked = {
            "tenant": tenant,
            "arm_id": arm_id,
            "episode_id": episode_id,
            "after": after,
            "limit": limit,
        }
        # Only the conditions that are meant, so that each shape gets the plan that suits it.
        conditions = ["tenant = %(tenant)s"]
        if arm_id is not None:
            conditions.append("arm_id = %(arm_id)s")
        if episode_id is not None:
            conditions.append("episode_id = %(episode_id)s")
        if after is not None:
            conditions.append("episode_id < %(after)s")
        return await self._rows(_FIND.format(conditions=" and ".join(conditions)), asked)

    async def forget(self, *, days: int) -> int:
        """Delete some episodes that are older; gives their number, 0 when none is left."""
        with postgres_errors():
            async with self._pool.connection() as connection:
                return (await connection.execute(_FORGET, [days])).rowcount

    async def _rows(self, sql: str, asked: Any) -> list[Episode]:
        with postgres_errors():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(sql.encode(), asked)
                return [Episode(*row) for row in await cursor.fetchall()]

    async def check(self) -> None:
        """Raise Unavailable unless Postgres answers and the schema is there."""
        await self._rows(_GET, ("readiness", "readiness"))
