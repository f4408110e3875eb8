"""Rows of semantic memory that are old: deleted some at a time, and told of."""

from typing import Final

from octarm.common.storage.connections import Pool, transaction
from octarm.memory.storage.errors import postgres_errors

_OF_TYPE: Final = """
with old as (
    select tenant, memory_id from memory.semantic
    where kept_at < now() - make_interval(days => %(days)s) and entity_type = %(class)s
        and superseded_by is null
    limit 500 for update skip locked
), gone as (
    delete from memory.semantic s using old
    where s.tenant = old.tenant and s.memory_id = old.memory_id
    returning s.tenant, s.memory_id
), told as (
    insert into memory.untold (tenant, memory_id, verb)
    select tenant, memory_id, 'expired' from gone
)
select count(*) from gone
"""
_HISTORY: Final = """
with gone as (
    delete from memory.semantic where ctid = any(array(
        select ctid from memory.semantic
        where superseded_at < now() - make_interval(days => %(days)s)
        limit 2000 for update skip locked))
    returning 1
)
select count(*) from gone
"""
_AUDIT: Final = """
with gone as (
    delete from memory.audit where ctid = any(array(
        select ctid from memory.audit where at < now() - make_interval(days => %(days)s)
        limit 5000 for update skip locked))
    returning 1
)
select count(*) from gone
"""
# History of what is no more, and what was history of that.
_ORPHANS: Final = """
delete from memory.semantic old where superseded_by is not null and not exists (
    select from memory.semantic s
    where s.tenant = old.tenant and s.memory_id = old.superseded_by)
"""


class PostgresKnowledgeAge:
    """Works as the owner of the tables: this is about every tenant's rows."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def forget(self, *, days: int, retention: str) -> int:
        """Delete some rows of a class that are older; 0 when none is left."""
        statement = {"history": _HISTORY, "audit": _AUDIT}.get(retention, _OF_TYPE)
        with postgres_errors():
            async with transaction(self._pool) as connection:
                cursor = await connection.execute(
                    statement.encode(), {"days": days, "class": retention}
                )
                row = await cursor.fetchone()
        return int(row[0]) if row else 0

    async def sweep(self) -> None:
        """Delete the history of what is no more."""
        with postgres_errors():
            async with transaction(self._pool) as connection:
                while (await connection.execute(_ORPHANS)).rowcount > 0:
                    pass
