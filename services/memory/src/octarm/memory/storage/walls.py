"""Transactions behind a wall: the role that sees the rows of one tenant, and no others."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from octarm.common.storage.connections import Connection, Pool, transaction
from octarm.memory.storage.errors import postgres_errors

# One statement for all; each setting ends with the transaction. Nearest neighbours are sought
# among so many (the more rows, the more, or fewer of them are found), and further on as long as
# filters leave fewer than were asked for.
_BEHIND: Final = """
select set_config('role', 'octarm_memory', true), set_config('octarm.tenant', %s, true),
    set_config('hnsw.iterative_scan', 'relaxed_order', true), set_config('hnsw.ef_search',
        least(1000, 170 * greatest(1, sqrt(greatest(reltuples, 0) / 1e5)))::int::text, true)
from pg_class where oid = 'memory.semantic'::regclass
"""


@asynccontextmanager
async def behind_wall(pool: Pool, tenant: str) -> AsyncGenerator[Connection, None]:
    """Begin a transaction that sees one tenant; raises Unavailable, and DataError as it is."""
    with postgres_errors():
        async with transaction(pool) as connection:
            await connection.execute(_BEHIND, [tenant])
            yield connection


def as_vector(vector: Sequence[float]) -> str:
    """Write a vector as Postgres reads it."""
    return f"[{','.join([format(part, '.6g') for part in vector])}]"
