"""Rows whose vector another embedder made, or none: found and written some at a time.

This is about every tenant's rows, so it is done by their owner, not behind the wall of one.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from octarm.common.storage.connections import Pool, transaction
from octarm.memory.storage.errors import postgres_errors
from octarm.memory.storage.walls import as_vector
from octarm.memory.usecases.reembedding import Progress

Embed = Callable[[Sequence[str]], Awaitable[list[list[float]]]]

# Two conditions that the index by space knows; "another than this one" it would not.
_OTHERS: Final = """
s.superseded_by is null and (s.space is null
    or (%(all)s and s.space = any(array(select space from memory.space where space <> %(space)s))))
"""
_SOME: Final = f"""
select s.tenant, s.memory_id, s.content from memory.semantic s where {_OTHERS}
limit %(limit)s for update skip locked
"""
_WRITE: Final = """
update memory.semantic s set space = %(space)s, vec = new.vec::halfvec
from unnest(%(tenants)s::text[], %(ids)s::text[], %(vectors)s::text[]) as new (tenant, id, vec)
where s.tenant = new.tenant and s.memory_id = new.id
"""
_START: Final = f"""
insert into memory.reembedding (space, total)
select %(space)s, (select count(*) from memory.semantic s where {_OTHERS})
on conflict (space) do update
set total = excluded.total, done = 0, started_at = clock_timestamp(), finished_at = null
where reembedding.finished_at is not null
"""
# Rows that another replica has in hand are none for `_SOME`, and may still fail there.
_ADVANCE: Final = f"""
update memory.reembedding set done = least(total, done + %(done)s),
    finished_at = case when %(finished)s
        and not exists (select from memory.semantic s where {_OTHERS}) then clock_timestamp() end
where space = %(space)s and finished_at is null
"""
_PROGRESS: Final = f"""
select total, done, started_at, finished_at,
    (select count(*) from memory.semantic s where {_OTHERS})
from (select) always left join memory.reembedding on space = %(space)s
"""


class PostgresReembedding:
    """Gives each row a vector of one space; what was done stays done."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def start(self, space: int) -> None:
        """Wish for it; one that is under way goes on."""
        await self._run(_START, {"space": space, "all": True})

    async def progress(self, space: int) -> Progress:
        """Say how far it is."""
        rows = await self._run(_PROGRESS, {"space": space, "all": True})
        total, done, started_at, finished_at, left = rows[0]
        return Progress(total or 0, done or 0, left, started_at, finished_at)

    async def some(self, space: int, embed: Embed, *, every: bool, limit: int) -> int:
        """Embed some rows; gives their number, 0 when no other is left.

        They are locked meanwhile, so that two replicas share the work. `every`: also those that
        have a vector of another maker.
        """
        asked = {"space": space, "all": every, "limit": limit}
        with postgres_errors():
            async with transaction(self._pool) as connection:
                rows = await (await connection.execute(_SOME, asked)).fetchall()
                if rows:
                    vectors = await embed([row[2] for row in rows])
                    await connection.execute(
                        _WRITE,
                        {
                            "space": space,
                            "tenants": [row[0] for row in rows],
                            "ids": [row[1] for row in rows],
                            "vectors": [as_vector(vector) for vector in vectors],
                        },
                    )
                advanced = {"done": len(rows), "finished": every and not rows}
                await connection.execute(_ADVANCE, asked | advanced)
        return len(rows)

    async def _run(self, statement: str, asked: dict[str, Any]) -> list[tuple[Any, ...]]:
        with postgres_errors():
            async with transaction(self._pool) as connection:
                cursor = await connection.execute(statement.encode(), asked)
                return await cursor.fetchall() if cursor.description else []
