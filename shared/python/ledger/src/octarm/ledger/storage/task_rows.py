"""Fresh tasks as the rows of statements."""

from typing import Any, Final

import msgspec

from octarm.common.storage.arrays import Bools, Byteas, Int4s, Texts, Timestamps, Utf8s
from octarm.ledger.domain.plans import Place
from octarm.ledger.domain.tasks import NewTask
from octarm.models.states import TaskState

TASK_COLUMNS: Final = (
    *(Texts, Texts, Texts, Byteas, Texts, Int4s, Timestamps, Int4s, Int4s, Int4s, Texts, Texts),
    *(Texts, Int4s, Texts, Texts, Utf8s, Texts, Timestamps, Bools),
)
# `unnest` among the columns gives row by row; as a table, each array is copied to one first.
INSERT_TASKS: Final = """
insert into ledger.task (id, tenant, idem_key, req_hash, state, event_seq, deadline, timeout_s,
    max_retries, priority, tier, parent_id, root_id, depth, labels, goal, contract, traceparent,
    created_at, fresh)
select id, tenant, idem_key, req_hash, state, event_seq, deadline, timeout_s, max_retries,
    priority, tier, parent_id, root_id, depth, labels::jsonb, goal, contract::json, traceparent,
    created_at, fresh
from (select unnest(%b::text[]) as id, unnest(%b::text[]) as tenant,
    unnest(%b::text[]) as idem_key, unnest(%b::bytea[]) as req_hash, unnest(%b::text[]) as state,
    unnest(%b::int[]) as event_seq, unnest(%b::timestamptz[]) as deadline,
    unnest(%b::int[]) as timeout_s, unnest(%b::int[]) as max_retries,
    unnest(%b::int[]) as priority, unnest(%b::text[]) as tier, unnest(%b::text[]) as parent_id,
    unnest(%b::text[]) as root_id, unnest(%b::int[]) as depth, unnest(%b::text[]) as labels,
    unnest(%b::text[]) as goal, unnest(%b::text[]) as contract, unnest(%b::text[]) as traceparent,
    unnest(%b::timestamptz[]) as created_at, unnest(%b::bool[]) as fresh) as r
"""


def state_of(task: NewTask) -> TaskState:
    """Give the state in which a fresh task is written."""
    return TaskState.WAITING if task.waits else TaskState.QUEUED


def task_row(task: NewTask, place: Place | None = None, *, fresh: bool = False) -> tuple[Any, ...]:
    """Give the columns of `TASK_COLUMNS`; `place` is the task's among its relatives.

    A `fresh` one is in no list as long as it is queued.
    """
    waits = task.waits
    return (
        task.task_id,
        task.tenant,
        task.idem_key,
        task.req_hash,
        "waiting" if waits else "queued",
        1 if waits else 2,
        task.deadline,
        task.timeout_s,
        task.max_retries,
        task.priority,
        task.tier,
        task.parent_id,
        place.root_id if place else task.task_id,
        place.depth if place else 0,
        msgspec.json.encode(task.labels).decode() if task.labels else None,
        task.goal,
        task.contract,
        task.traceparent,
        task.created_at,
        fresh,
    )
