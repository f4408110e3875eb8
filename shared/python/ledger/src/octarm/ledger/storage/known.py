"""Recognising submissions that came before: by their id, or by their tenant's idempotency key."""

from collections.abc import Sequence
from typing import Any, Final

from octarm.common.storage.connections import Connection
from octarm.ledger.domain.changes import AcceptAnswer, Known, Mark, Name
from octarm.ledger.domain.tasks import NewTask
from octarm.models.errors import Conflict
from octarm.models.states import TaskState

_KNOWN: Final = """
select t.id, t.tenant, t.idem_key, t.req_hash, t.state from ledger.task t
where t.id = any(%b::text[])
union
select t.id, t.tenant, t.idem_key, t.req_hash, t.state from ledger.task t
join unnest(%b::text[], %b::text[]) as r(tenant, idem_key)
    on t.tenant = r.tenant and t.idem_key = r.idem_key
"""
_HELD: Final = """
select null, t.tenant, t.idem_key from ledger.task t
join unnest(%b::text[], %b::text[]) as r(tenant, idem_key)
    on t.tenant = r.tenant and t.idem_key = r.idem_key
union all
select t.id, null, null from ledger.task t where t.id = any(%b::text[])
"""


async def find_known(connection: Connection, tasks: Sequence[NewTask]) -> list[tuple[Any, ...]]:
    """Give the rows that some of these tasks may be repetitions of; asks nobody for none."""
    if not tasks:
        return []
    keyed = [task for task in tasks if task.idem_key is not None]
    cursor = await connection.execute(
        _KNOWN,
        [
            [task.task_id for task in tasks],
            [task.tenant for task in keyed],
            [task.idem_key for task in keyed],
        ],
    )
    return await cursor.fetchall()


async def find_held(connection: Connection, names: Sequence[Name]) -> set[Mark]:
    """Find the keys and ids among these that the ledger holds."""
    keyed = [name for name in names if name.idem_key is not None]
    cursor = await connection.execute(
        _HELD,
        [
            [name.tenant for name in keyed],
            [name.idem_key for name in keyed],
            [name.task_id for name in names if name.task_id is not None],
        ],
    )
    rows = await cursor.fetchall()
    return {task_id or (tenant, idem_key) for task_id, tenant, idem_key in rows}


def is_same(task: NewTask, row: tuple[Any, ...]) -> bool:
    """Whether a row of `find_known` has the task's id, or its tenant's idempotency key."""
    task_id, tenant, idem_key, *_ = row
    same_key = task.idem_key is not None and (tenant, idem_key) == (task.tenant, task.idem_key)
    return same_key or task_id == task.task_id


def repetition(task: NewTask, known: Sequence[tuple[Any, ...]]) -> AcceptAnswer:
    """Answer a task that was not written because one with its id or key exists."""
    for row in known:
        if not is_same(task, row):
            continue
        task_id, tenant, _, req_hash, state = row
        if tenant == task.tenant and bytes(req_hash) == task.req_hash:
            return Known(task_id, TaskState(state), created=False)
        break
    return Conflict(
        "this idempotency key or task id was used with another body",
        "Use a new key for a new task, or repeat exactly the first request.",
        "IDEMPOTENCY_CONFLICT",
    )
