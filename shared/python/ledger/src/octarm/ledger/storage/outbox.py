"""The outbox: what a commit has to say, kept until the bus has it."""

from collections.abc import Collection, Sequence
from typing import Final

from octarm.common.bus.publisher import Outgoing
from octarm.common.storage import Pool, connected
from octarm.common.storage.connections import Connection
from octarm.ledger.domain.changes import Entry
from octarm.ledger.domain.messages import pack, unpack

_INSERT = "insert into ledger.outbox (messages) values (%b) returning seq"
_DELETE = "delete from ledger.outbox where seq = any(%b)"
# A row may hold megabytes; a page is small.
PAGE: Final = 50
_OLD: Final = f"""
select seq, messages from ledger.outbox
where created_at < now() - make_interval(secs => %s) and seq <> all(%s)
order by seq limit {PAGE}
"""
_COUNT = "select count(*) from ledger.outbox"


async def write_entry(connection: Connection, messages: list[Outgoing]) -> Entry | None:
    """Write messages inside the caller's transaction; None when there are none."""
    if not messages:
        return None
    cursor = await connection.execute(_INSERT, [pack(messages)])
    row = await cursor.fetchone()
    assert row is not None
    return Entry(row[0], messages)


class PostgresOutbox:
    """The rows that wait for publication."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def delete(self, seqs: Sequence[int]) -> None:
        """Forget rows whose messages the bus has acknowledged."""
        async with connected(self._pool) as connection:
            await connection.execute(_DELETE, [list(seqs)])

    async def older_than(self, seconds: float, *, without: Collection[int] = ()) -> list[Entry]:
        """Give up to 50 rows that a relay should have published long ago, but not those named."""
        async with connected(self._pool) as connection:
            cursor = await connection.execute(_OLD, [seconds, list(without)])
            return [Entry(seq, unpack(packed)) for seq, packed in await cursor.fetchall()]

    async def count(self) -> int:
        """Count the rows."""
        async with connected(self._pool) as connection:
            row = await (await connection.execute(_COUNT)).fetchone()
            return int(row[0]) if row else 0
