"""Episodes in Postgres, in the schema `memory`: those of finished tasks added, all found."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import psycopg
from msgspec import Raw

from octarm.common.storage.arrays import Texts, packed
from octarm.common.storage.connections import Pool
from octarm.memory.domain.entries import Entry
from octarm.memory.domain.episode import Episode
from octarm.memory.domain.paging import Question
from octarm.memory.storage.errors import postgres_errors
from octarm.memory.storage.walls import behind_wall
from octarm.memory.usecases.ports import Kept
from octarm.models.ids import with_prefix

# More than a page can hold, so what is cut off here is on the next one.
MAX_ENTRY_BYTES: Final = 4 * 1024 * 1024

_ADD: Final = """
insert into memory.episode (tenant, episode_id, arm_id, created_at, body)
select tenant, episode_id, arm_id, created_at::timestamptz, body::json
from unnest(%b::text[], %b::text[], %b::text[], %b::text[], %b::text[])
    as new (tenant, episode_id, arm_id, created_at, body)
where not exists (
    select from memory.episode_gone gone
    where gone.tenant = new.tenant and gone.episode_id = new.episode_id)
"""
_ADD_MISSING: Final = _ADD + "on conflict do nothing"

_COLUMNS: Final = """
select tenant, episode_id, arm_id, created_at::text, body::text, task_id, tags, retention
from memory.episode
"""
_NOT_GONE: Final = """
not exists (
    select from memory.episode_gone gone
    where gone.tenant = episode.tenant and gone.episode_id = episode.episode_id)
"""
_GET: Final = f"{_COLUMNS} where tenant = %s and episode_id = %s and {_NOT_GONE}"

_FIND: Final = """
{columns}
where {conditions}
order by episode_id desc
limit %(limit)s
"""

_ENTRIES: Final = """
select episode_id, entry_id, seq, kind, body::text, ttl_seconds
from (
    select *, sum(octet_length(body::text)) over (order by episode_id desc, seq, entry_id) as size
    from memory.episode_entry where tenant = %s and episode_id = any(%s)
) entry
where size <= %s
"""


class PostgresEpisodes:
    """Keeps episodes in the table `memory.episode`, and their entries beside it."""

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

    async def get(self, tenant: str, episode_id: str) -> Kept | None:
        """Give a tenant's episode with its entries."""
        found = await self._rows(_GET, (tenant, episode_id), tenant)
        return found[0] if found else None

    async def find(self, question: Question, *, after: str | None, limit: int) -> list[Kept]:
        """Give the episodes that are asked for by id, descending, from below `after`."""
        # Only the conditions that are meant, so that each shape gets the plan that suits it.
        conditions, asked = _conditions(question)
        if after is not None:
            conditions.append("episode_id < %(after)s")
        sql = _FIND.format(columns=_COLUMNS, conditions=" and ".join(conditions))
        return await self._rows(sql, {**asked, "after": after, "limit": limit}, question.tenant)

    async def _rows(self, sql: str, asked: Any, tenant: str) -> list[Kept]:
        entries: dict[str, dict[str, Entry]] = {}
        async with behind_wall(self._pool, tenant) as connection:
            cursor = await connection.execute(sql.encode(), asked)
            found = [_episode(row) for row in await cursor.fetchall()]
            ids = [one.episode_id for one in found]
            if ids:
                cursor = await connection.execute(_ENTRIES, [tenant, ids, MAX_ENTRY_BYTES])
                for episode_id, entry_id, seq, kind, body, ttl_s in await cursor.fetchall():
                    entry = Entry(seq, kind, Raw(body.encode()), ttl_s)
                    entries.setdefault(episode_id, {})[entry_id] = entry
        return [Kept(one, entries.get(one.episode_id, {})) for one in found]

    async def check(self) -> None:
        """Raise Unavailable unless Postgres answers and the schema is there."""
        await self._rows(_GET, ("readiness", "readiness"), "readiness")


def _episode(row: Sequence[Any]) -> Episode:
    tenant, episode_id, arm_id, created_at, body, task_id, tags, retention = row
    return Episode(
        tenant,
        episode_id,
        arm_id,
        created_at,
        body,
        task_id=task_id,
        tags=tuple(tags),
        retention=retention,
    )


def _conditions(question: Question) -> tuple[list[str], dict[str, str | datetime | None]]:
    conditions = ["tenant = %(tenant)s", _NOT_GONE]
    if question.arm_id is not None:
        conditions.append("arm_id = %(arm_id)s")
    if question.task_id is not None:
        conditions.append("(episode_id = %(own_id)s or task_id = %(task_id)s)")
    if question.tag is not None:
        conditions.append("episode_id in (select memory.tagged(%(tag)s))")
    if question.since is not None:
        conditions.append("created_at >= %(since)s")
    if question.until is not None:
        conditions.append("created_at < %(until)s")
    return conditions, {
        "tenant": question.tenant,
        "arm_id": question.arm_id,
        "task_id": question.task_id,
        "own_id": with_prefix("epi", question.task_id) if question.task_id else None,
        "tag": question.tag,
        "since": question.since,
        "until": question.until,
    }
