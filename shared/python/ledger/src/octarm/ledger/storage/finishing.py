"""The short way of most attempts: from queued to completed in one statement.

A short attempt is over before the news of its placement is read, so its task has one
transition, its attempt and its result are each written once, whole, and nobody else has
written them. Whatever is not like that goes the general way, in `attempts`.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, Final

from psycopg.errors import NotNullViolation, UniqueViolation

from octarm.common.bus.publisher import Outgoing
from octarm.common.failpoints import failpoint
from octarm.common.storage import Pool, connected
from octarm.common.storage.arrays import Byteas, Int4s, Texts, Timestamps, Utf8s, packed
from octarm.common.storage.connections import Connection
from octarm.ledger.domain.changes import Entry, Moved
from octarm.ledger.domain.messages import pack
from octarm.ledger.domain.news import AttemptNews
from octarm.ledger.storage.remembered import LAST_EVENT
from octarm.models.states import TaskState

_COLUMNS: Final = (Texts, Int4s, Texts, Texts, Timestamps, Timestamps, Texts, Utf8s, Byteas)
# The rows come sorted and are found one by one, so they are locked in that order. The number of
# events added is that of `lifecycle.events_to`. Without `on conflict`: it would look into each
# index first, for what is never there. The state is a parameter, so that no plan goes through the
# index of all queued tasks, which is small only while the plan is made.
# `unnest` stands among columns: see `task_rows`.
_WRITTEN: Final = """
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
"""
_FINISH: Final = f"""{_WRITTEN}
select id, tenant, attempt, event_seq - 2, event_seq, traceparent, goal, updated_at, arm_id,
    instance_id, exists (select from ledger.budget b where b.task_id = id)
from moved
"""
# A row without messages is refused, and with it the whole statement.
_FINISH_AND_TELL: Final = f"""{_WRITTEN}
insert into ledger.outbox (messages)
select case when count(*) filter (where event_seq = %b) = %b then %b::bytea end from moved
returning seq
"""


async def finish(connection: Connection, news: Sequence[AttemptNews]) -> list[Moved]:
    """Complete those of the tasks that are queued, with their attempts and results.

    Raises:
        UniqueViolation: something was written of an attempt before; the transaction is over.
    """
    if not news:
        return []
    cursor = await connection.execute(_FINISH, _parameters(news))
    return [_moved(row) for row in await cursor.fetchall()]


async def finish_and_tell(
    pool: Pool, news: Sequence[AttemptNews], messages: list[Outgoing]
) -> Entry | None:
    """Complete tasks and write what is to be told of it; None when they do not all stand so.

    Each has had two events, and has no budget. A statement of its own is its own transaction.
    """
    parameters = [*_parameters(news), LAST_EVENT, len(news), pack(messages)]
    try:
        async with connected(pool) as connection:
            before_commit()
            cursor = await connection.execute(_FINISH_AND_TELL, parameters)
            row = await cursor.fetchone()
    except (UniqueViolation, NotNullViolation):
        return None
    assert row is not None
    return Entry(row[0], messages)


def before_commit() -> None:
    """Come by here, on every way, before an end is durable."""
    failpoint("results_before_commit")


def _parameters(news: Sequence[AttemptNews]) -> list[Any]:
    return [*packed(_COLUMNS, [_row(item) for item in news]), [TaskState.QUEUED.value]]


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
