"""How much waits in the ledger."""

from typing import Final

from octarm.common.storage import Pool, connected
from octarm.ledger.storage.listed import QUEUED, WAITING

# What lies far above the mark need not be counted.
_COUNT: Final = f"""
select (select count(*) from (select from ledger.task t where {QUEUED} limit %(most)s) q)
    + (select count(*) from (select from ledger.task t where {WAITING} limit %(most)s) w),
    (select count(*) from (select from ledger.outbox limit %(rows)s) o)
"""


class PostgresBacklog:
    """Counts what waits, up to twice the marks."""

    def __init__(self, pool: Pool, *, max_open: int, max_outbox: int) -> None:
        self._pool = pool
        self._parameters = {"most": 2 * max_open, "rows": 2 * max_outbox}

    async def count(self) -> tuple[int, int]:
        """Give the tasks that wait or are queued, and the outbox rows."""
        async with connected(self._pool) as connection:
            row = await (await connection.execute(_COUNT, self._parameters)).fetchone()
        assert row is not None
        return int(row[0]), int(row[1])
