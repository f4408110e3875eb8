"""Ending queued tasks that the scheduler does not place."""

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from octarm.common.failpoints import failpoint
from octarm.common.storage import Pool, transaction
from octarm.ledger.domain.changes import Announce, Entry, Moved, Unwanted
from octarm.ledger.storage.outbox import write_entry
from octarm.ledger.storage.relatives import Relatives
from octarm.ledger.storage.statements import moved_row

# Only what the scheduler is asked to place: of a waiting task it knows nothing, and one that was
# placed meanwhile stays with its arm. Who calls a task off comes first.
_REJECT: Final = """
with r as (
    select * from unnest(%s::text[], %s::int[], %s::text[]) as r(id, attempt, error)
), old as (
    select t.id, t.attempt, t.state, r.error
    from ledger.task t join r on t.id = r.id and t.attempt = r.attempt
    where t.state = 'queued' and t.arm_id is null and t.cancelling_since is null
    order by t.id for update of t
)
update ledger.task t set state = 'rejected', event_seq = t.event_seq + 1, lease_until = null,
    dispatch_seq = null, error = old.error::json, terminal_at = now(), updated_at = now()
from old where t.id = old.id
returning t.id, t.tenant, old.attempt, old.state, t.state, t.event_seq, t.event_seq,
    t.traceparent, t.goal, now(), null::text, null::text, null::timestamptz, null::bigint,
    t.error::text
"""


class PostgresRejecting:
    """Rejects queued tasks; what has gone on stays as it is."""

    def __init__(self, pool: Pool, relatives: Relatives) -> None:
        self._pool = pool
        self._relatives = relatives

    async def reject(
        self, unwanted: Sequence[Unwanted], announce: Announce
    ) -> tuple[list[Moved], Entry | None]:
        """End those that are queued at their attempt; repeating changes nothing.

        Budgets, children and those that wait for them are settled in the same transaction.
        """
        rows = [(item.task_id, item.attempt, item.error) for item in unwanted]
        async with transaction(self._pool) as connection:
            cursor = await connection.execute(_REJECT, [list(it) for it in zip(*rows, strict=True)])
            moved = [
                replace(moved_row(row[:-1]), error=row[-1].encode())
                for row in await cursor.fetchall()
            ]
            settled = await self._relatives.settle_and_book(connection, moved)
            entry = await write_entry(connection, announce(settled.moved) + settled.messages)
        failpoint("reject_after_commit")
        return moved, entry
