"""The short way of most attempts: from queued to completed in one statement.

A short attempt is over before the news of its placement is read, so its task has one
transition, its attempt and its result are each written once, whole, and nobody else has
written them. Whatever is not like that goes the general way, in `attempts`.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, Final

from octarm.common.storage.arrays import Byteas, Int4s, Texts, Timestamps, Utf8s, packed
from octarm.common.storage.connections import Connection
from octarm.ledger.domain.changes import Moved
from octarm.ledger.domain.news import AttemptNews
from octarm.models.states import TaskState

_COLUMNS: Final = (Texts, Int4s, Texts, Texts, Timestamps, Timestamps, Texts, Utf8s, Byteas)
# The rows of `given` come sorted and are found one by one, so they are locked in that order. The
# number of events added is that of `lifecycle.events_to`. Without `on conflict`: it would look
# into each index first, for what is never there. The state is a parameter, so that no plan goes
# through the index of all queued tasks, which is small only while the plan is made.
# `unnest` stands among columns: see `task_rows`.
_FINISH: Final = """
with moved as (
    update ledger.task t set state = 'completed', event_seq = t.event_seq + 3,
        arm_id = r.arm_id, instance_id = r.instance_id, lease_until = null, dispatch_seq = null,
        started_at = coalesce(r.started_at, t.started_at), error = null, terminal_at = now(),
        updated_at = now()
    from (select unnest(%b::text[]) as id, unnest(%b::int[]) as attempt,
        unnest(%b::text[]) as arm_id, unnest(%b::text[]) as instance_id,
        unnest(%b::timestamptz[]) as placed_at, unnest(%b::timestamptz[]) as started_at,
        unnest(%b::text[]) as decision, unnest(%b::text[]) as body,
        unnest(%b::bytea[]) as sha256) as r
    where t.id = r.id and t.attempt = r.attempt and t.state = any(%b::text[])
        and t.arm_id is null and t.cancelling_since is null
    returning t.id, t.tenant, t.attempt, t.event_seq, t.traceparent, t.goal, t.updated_at,
        t.arm_id, t.instance_id, r.placed_at, t.started_at, r.decision, r.body, r.sha256
), tried as (
    insert into ledger.attempt (task_id, attempt, arm_id, instance_id, placed_at, started_at,
        ended_at, outcome, decision)
    select id, attempt, arm_id, instance_id, placed_at, started_at, updated_at, 'success',
        decision::json from moved
), kept as (
    insert into ledger.result (task_id, attempt, body, sha256)
    select id, attempt, body::json, sha256 from moved
)
select id, tenant, attempt, event_seq - 2, event_seq, traceparent, goal, updated_at, arm_id,
    instance_id, exists (select from ledger.budget b where b.task_id = id)
from moved
"""


def is_short(news: AttemptNews) -> bool:
    """Whether it is a success that has used nothing of a budget but time."""
    result = news.result
    return (
        result is not None
        and result.status == "success"
        and not (result.tokens_used or result.cost_dollars or result.llm_calls)
    )


async def finish(connection: Connection, news: Sequence[AttemptNews]) -> list[Moved]:
    """Complete those of the tasks that are queued, with their attempts and results.

    Raises:
        UniqueViolation: something was written of an attempt before; the transaction is over.
    """
    if not news:
        return []
    rows = [_row(item) for item in news]
    cursor = await connection.execute(_FINISH, [*packed(_COLUMNS, rows), [TaskState.QUEUED.value]])
    return [_moved(row) for row in await cursor.fetchall()]


def _moved(row: tuple[Any, ...]) -> Moved:
    *moved, arm_id, instance_id, budgeted = row
    task_id, tenant, attempt, first, last, traceparent, goal, at = moved
    return Moved(
        *(task_id, tenant, attempt, TaskState.QUEUED, TaskState.COMPLETED),
        *(first, last, traceparent, goal, at),
        arm_id=arm_id,
        instance_id=instance_id,
        budgeted=budgeted,
    )


def _row(news: AttemptNews) -> tuple[Any, ...]:
    placement = news.placement
    return (
        news.task_id,
        news.attempt,
        news.arm_id,
        news.instance_id,
        placement.placed_at if placement else None,
        news.started_at,
        news.decision,
        news.body,
        hashlib.sha256(news.body).digest(),
    )
