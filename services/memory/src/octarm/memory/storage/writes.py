"""What Postgres is told of episodes: entries kept, episodes forgotten, old ones deleted."""

from collections.abc import Mapping, Sequence
from typing import Final

import psycopg

from octarm.common.storage.arrays import Array, Int4s, Int8s, Texts, Utf8s, packed
from octarm.common.storage.connections import Pool
from octarm.memory.domain.entries import opened
from octarm.memory.domain.episode import Episode
from octarm.memory.storage.errors import postgres_errors
from octarm.models.hot_episodes import KeptWrite

_GONE: Final = """
where not exists (
    select from memory.episode_gone gone
    where gone.tenant = new.tenant and gone.episode_id = new.episode_id)
on conflict do nothing
"""
_OPEN: Final = f"""
insert into memory.episode
    (tenant, episode_id, arm_id, created_at, body, task_id, tags, retention)
select tenant, episode_id, arm_id, created_at::timestamptz, body::json, task_id,
    string_to_array(tags, ' '), retention
from unnest(%b::text[], %b::text[], %b::text[], %b::text[], %b::text[], %b::text[],
    %b::text[], %b::text[])
    as new (tenant, episode_id, arm_id, created_at, body, task_id, tags, retention)
{_GONE}
"""
_ENTER: Final = f"""
insert into memory.episode_entry (tenant, episode_id, entry_id, seq, kind, body, ttl_seconds)
select tenant, episode_id, entry_id, seq, kind, body::json, ttl_seconds
from unnest(%b::text[], %b::text[], %b::text[], %b::bigint[], %b::text[], %b::text[],
    %b::integer[])
    as new (tenant, episode_id, entry_id, seq, kind, body, ttl_seconds)
{_GONE}
"""

_BURY: Final = """
insert into memory.episode_gone (tenant, episode_id) values (%s, %s) on conflict do nothing
"""
_DELETE: Final = """
with gone as (
    delete from memory.episode where tenant = %(tenant)s and episode_id = %(id)s returning 1
), entries as (
    delete from memory.episode_entry where tenant = %(tenant)s and episode_id = %(id)s returning 1
)
select (select count(*) from gone) + (select count(*) from entries)
"""

# What has not been looked through yet for what is worth keeping stays; nothing goes while nobody
# looks. By place: the rows of a batch lie side by side, and another replica takes the next ones.
_AGE: Final = """
with old as (
    delete from memory.episode where ctid = any(array(
        select ctid from memory.episode
        where created_at < now() - make_interval(days => %s) and retention = %s
            and not exists (
                select from memory.consolidation due
                where due.tenant = episode.tenant and due.episode_id = episode.episode_id
                    and due.done_at is null)
            and exists (
                select from memory.consolidation_cursor
                where seen_until > now() - interval '1 hour')
        limit 2000 for update skip locked))
    returning tenant, episode_id
), entries as (
    delete from memory.episode_entry entry using old
    where entry.tenant = old.tenant and entry.episode_id = old.episode_id
)
select count(*) from old
"""
# What was deleted while the stream still held a write for it; and entries without an episode.
_SWEEP: Final = (
    """
    delete from memory.episode episode using memory.episode_gone gone
    where episode.tenant = gone.tenant and episode.episode_id = gone.episode_id
    """,
    """
    delete from memory.episode_entry entry using memory.episode_gone gone
    where entry.tenant = gone.tenant and entry.episode_id = gone.episode_id
    """,
    """
    delete from memory.episode_entry where ctid = any(array(
        select entry.ctid from memory.episode_entry entry
        where entry.written_at < now() - interval '1 day' and not exists (
            select from memory.episode
            where episode.tenant = entry.tenant and episode.episode_id = entry.episode_id)
        limit 2000))
    """,
    "delete from memory.episode_gone where forgotten_at < now() - interval '30 days'",
)


_KINDS: Final[tuple[type[Array], ...]] = (Texts, Texts, Texts, Int8s, Texts, Utf8s, Int4s)


class PostgresWrites:
    """Writes entries in batches; each statement stands for itself and may be run again."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def keep(self, writes: Sequence[KeptWrite]) -> Mapping[int, str]:
        """Keep these; gives place → reason for those that Postgres refuses.

        Raises:
            Unavailable: Postgres does not answer; some may be kept.
        """
        try:
            await self._keep(writes)
        except psycopg.DataError:
            return await self._keep_singly(writes)
        return {}

    async def _keep_singly(self, writes: Sequence[KeptWrite]) -> Mapping[int, str]:
        """Find out which ones spoil the batch; this is rare, so it may be slow."""
        refused: dict[int, str] = {}
        for place, write in enumerate(writes):
            try:
                await self._keep([write])
            except psycopg.DataError as error:
                refused[place] = str(error).splitlines()[0]
        return refused

    async def _keep(self, writes: Sequence[KeptWrite]) -> None:
        # In one order in every process, or two of them could wait for each other.
        writes = sorted(writes, key=lambda one: (one.tenant, one.episode_id, one.entry_id))
        openings = [
            opened(w.tenant, w.episode_id, w.opening, created_at=w.opening.created_at.isoformat())
            for w in writes
            if w.opening is not None and w.opening.created_at is not None
        ]
        entries = [w for w in writes if w.opening is None]
        with postgres_errors():
            async with self._pool.connection() as connection:
                if openings:
                    await connection.execute(_OPEN, packed([Texts] * 8, map(_base_row, openings)))
                if entries:
                    await connection.execute(_ENTER, packed(_KINDS, map(_row, entries)))

    async def bury(self, tenant: str, episode_id: str) -> None:
        """Let nothing of an episode be kept, or shown, any more."""
        with postgres_errors():
            async with self._pool.connection() as connection:
                await connection.execute(_BURY, [tenant, episode_id])

    async def delete(self, tenant: str, episode_id: str) -> bool:
        """Delete an episode and its entries; tells whether there was anything."""
        with postgres_errors():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(_DELETE, {"tenant": tenant, "id": episode_id})
                row = await cursor.fetchone()
        return bool(row and row[0])

    async def forget(self, *, days: int, retention: str) -> int:
        """Delete some episodes of a class that are older; 0 when none is left."""
        with postgres_errors():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(_AGE, [days, retention])
                row = await cursor.fetchone()
        return int(row[0]) if row else 0

    async def sweep(self) -> None:
        """Delete what belongs to no episode any more."""
        with postgres_errors():
            async with self._pool.connection() as connection:
                for statement in _SWEEP:
                    await connection.execute(statement.encode())


def _base_row(e: Episode) -> tuple[str | None, ...]:
    tags = " ".join(e.tags)
    return e.tenant, e.episode_id, e.arm_id, e.created_at, e.body, e.task_id, tags, e.retention


def _row(w: KeptWrite) -> tuple[str, str, str, int, str, bytes, int | None]:
    return w.tenant, w.episode_id, w.entry_id, w.seq, w.kind, bytes(w.body), w.ttl_seconds
