"""Calling off: at once what no arm runs, with proof what one does."""

from collections.abc import Sequence
from typing import Any, Final

from octarm.common.storage import Pool, connected, transaction
from octarm.common.storage.connections import Connection
from octarm.ledger.domain.changes import Announce, Entry, Moved, Stopped, Stopping
from octarm.ledger.domain.lifecycle import OPEN
from octarm.ledger.storage.outbox import write_entry
from octarm.ledger.storage.relatives import Relatives
from octarm.ledger.storage.statements import CALL_OFF, called_off_row
from octarm.ledger.storage.stopping import stop_attempts
from octarm.models.states import TaskState

LIMIT: Final = 1000
_CANCEL: Final = CALL_OFF.format(seeds="id = %(id)s and tenant = %(tenant)s")
_STOPPING: Final = f"""
select t.id, t.attempt, t.arm_id, a.instance_id,
    case when t.state = 'dispatched' then t.dispatch_seq end,
    t.state <> 'dispatched' or a.started_at is not null, coalesce(t.error ->> 'detail', ''),
    t.cancelling_since < now() - make_interval(secs => %s),
    coalesce(t.lease_until < now(), true)
from ledger.task t
left join ledger.attempt a on a.task_id = t.id and a.attempt = t.attempt
where t.cancelling_since is not null and (%s::text[] is null or t.id = any(%s))
order by t.cancelling_since limit {LIMIT}
"""


class PostgresCancelling:
    """Calls tasks off and ends them once it is proven that their work has stopped."""

    def __init__(self, pool: Pool, relatives: Relatives) -> None:
        self._pool = pool
        self._relatives = relatives

    async def cancel(
        self, task_id: str, tenant: str, *, error: str, inherited: str, announce: Announce
    ) -> tuple[int, Entry | None]:
        """Call off a tenant's task and every open one below it.

        What no arm has is cancelled at once, the rest is cancelling. Gives how many tasks were
        called off, none when all were before. `error` and `inherited` are problem documents.
        """
        parameters: dict[str, Any] = {"id": task_id, "tenant": tenant, "open": OPEN}
        parameters |= {"error": error, "inherited": inherited}
        ended: list[Moved] = []
        called_off = 0
        async with transaction(self._pool) as connection:
            # Again, for a child that was accepted while its parent's row was being waited for.
            while rows := await self._call_off(connection, parameters):
                called_off += len(rows)
                ended += [moved for moved in rows if moved.new is TaskState.CANCELLED]
            settled = await self._relatives.settle_and_book(connection, ended)
            entry = await write_entry(connection, announce(settled.moved) + settled.messages)
        return called_off, entry

    async def _call_off(self, connection: Connection, parameters: dict[str, Any]) -> list[Moved]:
        cursor = await connection.execute(_CANCEL, parameters)
        return [called_off_row(row) for row in await cursor.fetchall()]

    async def stopping(
        self, force_s: float, task_ids: Sequence[str] | None = None
    ) -> list[Stopping]:
        """List attempts that were called off and have not ended, at most 1,000, oldest first."""
        ids = None if task_ids is None else list(task_ids)
        async with connected(self._pool) as connection:
            cursor = await connection.execute(_STOPPING, [force_s, ids, ids])
            return [Stopping(*row) for row in await cursor.fetchall()]

    async def stop(
        self, proofs: Sequence[Stopped], announce: Announce
    ) -> tuple[list[Moved], Entry | None]:
        """End the tasks of attempts that have stopped; each proof is checked again."""
        async with transaction(self._pool) as connection:
            moved = await stop_attempts(connection, proofs)
            settled = await self._relatives.settle_and_book(connection, moved)
            entry = await write_entry(connection, announce(settled.moved) + settled.messages)
        return moved, entry
