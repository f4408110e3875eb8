"""Which episodes are due to be looked through, taken one by one by whichever replica is free."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from octarm.common.storage.connections import Pool, transaction
from octarm.memory.storage.errors import postgres_errors
from octarm.memory.usecases.consolidating import Backlog, Claim

# Entries are written at their transaction's start and seen at its end: so much later at most.
OVERLAP_S: Final = 300
WINDOW_S: Final = 3600

# Who finds the cursor locked leaves the looking to the other.
_DISCOVER: Final = """
with cursor as (
    select seen_until, least(now(), seen_until + make_interval(secs => %(window)s)) as until
    from memory.consolidation_cursor for update skip locked
), fresh as (
    select e.tenant, e.episode_id, max(e.written_at) as written_at,
        bool_or(e.kind = 'close') as closed
    from cursor c join memory.episode_entry e
        on e.written_at >= c.seen_until - make_interval(secs => %(overlap)s)
        and e.written_at <= c.until
    group by e.tenant, e.episode_id
), noted as (
    insert into memory.consolidation (tenant, episode_id, written_at, due_at)
    select tenant, episode_id, written_at,
        written_at + case when closed then interval '0' else make_interval(secs => %(wait)s) end
    from fresh
    on conflict (tenant, episode_id) do update
    set written_at = excluded.written_at, due_at = excluded.due_at, done_at = null, tries = 0
    where excluded.written_at > consolidation.written_at
)
update memory.consolidation_cursor c set seen_until = cursor.until from cursor
where c.seen_until = cursor.seen_until
returning cursor.until >= now() - interval '1 second'
"""
_CLAIM: Final = """
select tenant, episode_id from memory.consolidation
where done_at is null and due_at <= now() order by due_at limit 1 for update skip locked
"""
_DONE: Final = """
update memory.consolidation set done_at = now() where tenant = %s and episode_id = %s
"""
# What fails is due again later; after the last try it counts as done, and as failed.
_LATER: Final = """
update memory.consolidation set tries = tries + 1,
    due_at = now() + make_interval(secs => 60 * (tries + 1)),
    done_at = case when tries + 1 >= %s then now() end
where tenant = %s and episode_id = %s
"""
_SEE: Final = """
insert into memory.sighting (tenant, arm_id, digest, episode_id)
select %(tenant)s, %(arm)s, digest, %(episode)s from unnest(%(digests)s::bytea[]) digest
on conflict do nothing
"""
_SEEN: Final = """
select digest, count(*) from memory.sighting
where tenant = %(tenant)s and arm_id = %(arm)s and digest = any(%(digests)s) group by digest
"""
_BACKLOG: Final = """
select count(*), coalesce(extract(epoch from now() - min(due_at)), 0)
from memory.consolidation where done_at is null and due_at <= now()
"""
_TIDY: Final = (
    "delete from memory.consolidation where done_at < now() - interval '1 day'"
    " and written_at < (select seen_until - interval '1 hour' from memory.consolidation_cursor)",
    "delete from memory.sighting where seen_at < now() - interval '90 days'",
)


class PostgresAgenda:
    """Knows which episodes are due, and what was seen in earlier ones."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def discover(self, *, wait_s: int) -> bool:
        """Note episodes that were written to; due `wait_s` after their last entry, or closed: now.

        Gives whether all was looked at. Looking twice notes nothing twice.
        """
        asked = {"window": WINDOW_S, "overlap": OVERLAP_S, "wait": wait_s}
        with postgres_errors():
            async with transaction(self._pool) as connection:
                cursor = await connection.execute(_DISCOVER, asked)
                row = await cursor.fetchone()
        return row is None or bool(row[0])

    @asynccontextmanager
    async def next_due(self) -> AsyncGenerator[Claim | None, None]:
        """Take the one that is due longest; it is another's again unless it is settled within."""
        with postgres_errors():
            async with transaction(self._pool) as connection:
                row = await (await connection.execute(_CLAIM)).fetchone()
                if row is None:
                    yield None
                    return
                claim = Claim(*row)
                yield claim
                if claim.failed:
                    await connection.execute(_LATER, [claim.most_tries, *row])
                elif claim.settled:
                    await connection.execute(_DONE, list(row))

    async def see(
        self, tenant: str, arm_id: str, episode_id: str, digests: Sequence[bytes]
    ) -> dict[bytes, int]:
        """Note observations of an episode; gives in how many episodes of the arm each was."""
        asked = {"tenant": tenant, "arm": arm_id, "episode": episode_id, "digests": list(digests)}
        with postgres_errors():
            async with transaction(self._pool) as connection:
                await connection.execute(_SEE, asked)
                cursor = await connection.execute(_SEEN, asked)
                return {bytes(digest): times for digest, times in await cursor.fetchall()}

    async def backlog(self) -> Backlog:
        """Say how many are due and not done, and for how long the oldest."""
        with postgres_errors():
            async with transaction(self._pool) as connection:
                row = await (await connection.execute(_BACKLOG)).fetchone()
        return Backlog(int(row[0]), float(row[1])) if row else Backlog(0, 0.0)

    async def tidy(self) -> None:
        """Delete notes that nobody needs any more."""
        with postgres_errors():
            async with transaction(self._pool) as connection:
                for statement in _TIDY:
                    await connection.execute(statement.encode())
