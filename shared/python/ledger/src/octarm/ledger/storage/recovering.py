"""Reading what is queued, to tell all of it again."""

from typing import Final

from octarm.common.storage import Pool, connected
from octarm.ledger.domain.changes import Woken
from octarm.ledger.storage.waking import woken_rows

PAGE: Final = 500

# The time is since when each may be placed, so that nobody loses his place in the queue.
_QUEUED: Final = f"""
select t.id, t.tenant, t.attempt, t.state, t.state, t.event_seq, t.event_seq, t.traceparent,
    t.goal, coalesce(t.not_before, t.created_at), t.tier, t.priority, t.deadline, t.contract::text
from ledger.task t where t.state = 'queued' and t.id > %s order by t.id limit {PAGE}
"""


class PostgresQueued:
    """The queued tasks, page by page."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def after(self, task_id: str) -> list[Woken]:
        """Give the next queued tasks after an id, in the order of their ids; empty at the end."""
        async with connected(self._pool) as connection:
            cursor = await connection.execute(_QUEUED, [task_id])
            return await woken_rows(connection, await cursor.fetchall())
