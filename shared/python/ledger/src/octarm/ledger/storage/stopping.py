"""Ending cancelling tasks once there is proof that their work has stopped."""

from collections.abc import Sequence
from typing import Final

from octarm.common.storage.connections import Connection
from octarm.ledger.domain.changes import Moved, Stopped, Stray
from octarm.ledger.domain.news import AttemptNews, Step
from octarm.ledger.storage.statements import called_off_row

# A result tells of a start that the ledger may not have heard of: two events then, as in
# `lifecycle.events_to`.
_STOP: Final = """
with r as (
    select * from unnest(%s::text[], %s::int[], %s::text[], %s::text[])
        as r(id, attempt, proof, reporter)
), old as (
    select t.id, t.attempt, t.state, t.event_seq, t.arm_id, t.instance_id, t.dispatch_seq,
        r.proof, r.reporter
    from ledger.task t join r on t.id = r.id and t.attempt = r.attempt
    where t.cancelling_since is not null and t.terminal_at is null
        and (r.reporter is null or t.arm_id = r.reporter)
        and (r.proof <> 'lease_ended' or t.lease_until is null or t.lease_until < now())
        and (r.proof <> 'never_started' or (t.state = 'dispatched' and not exists (
            select from ledger.attempt a where a.task_id = t.id and a.attempt = t.attempt
                and a.started_at is not null)))
    order by t.id for update of t
)
update ledger.task t set state = 'cancelled', cancelling_since = null, proof = old.proof,
    event_seq = t.event_seq
        + case when old.reporter is not null and old.state = 'dispatched' then 2 else 1 end,
    lease_until = null, dispatch_seq = null, terminal_at = now(), updated_at = now()
from old where t.id = old.id
returning t.id, t.tenant, old.attempt, old.state, t.state, old.event_seq + 1, t.event_seq,
    t.traceparent, t.goal, now(), old.arm_id, old.instance_id, null::timestamptz,
    old.dispatch_seq, t.error ->> 'detail', t.proof
"""
_PROVE: Final = """
insert into ledger.attempt as a (task_id, attempt, arm_id, ended_at, outcome, reason, proof)
select task_id, attempt, arm_id, now(), 'cancelled', reason, proof
from unnest(%s::text[], %s::int[], %s::text[], %s::text[], %s::text[])
    as r(task_id, attempt, arm_id, reason, proof)
on conflict (task_id, attempt) do update set
    ended_at = coalesce(a.ended_at, excluded.ended_at),
    outcome = coalesce(a.outcome, excluded.outcome),
    reason = coalesce(a.reason, excluded.reason), proof = excluded.proof
"""

# A result that stops a cancelling task is kept beside it; the task's own event tells of it.
_KEPT: Final = """
insert into ledger.late_result (task_id, attempt, body)
select id, attempt, body::json from unnest(%b::text[], %b::int[], %b::text[])
    as r(id, attempt, body)
on conflict do nothing
"""


async def stop_attempts(connection: Connection, proofs: Sequence[Stopped]) -> list[Moved]:
    """End cancelling tasks whose attempts are proven to have stopped; repeating changes nothing."""
    rows = [(item.task_id, item.attempt, item.proof, item.arm_id) for item in proofs]
    cursor = await connection.execute(_STOP, [list(column) for column in zip(*rows, strict=True)])
    moved = [called_off_row(row) for row in await cursor.fetchall()]
    if moved:
        attempts = [(m.task_id, m.attempt, m.arm_id, m.reason, m.proof) for m in moved]
        await connection.execute(_PROVE, [list(c) for c in zip(*attempts, strict=True)])
    return moved


async def stop_by_results(
    connection: Connection, strays: Sequence[Stray], news: Sequence[AttemptNews]
) -> list[Moved]:
    """End the cancelling tasks whose results these are, whatever the results say.

    The cancellation was committed first, so it wins; the result is kept as a late one.
    """
    cancelling = {(s.task_id, s.attempt) for s in strays if s.cancelling}
    results = [n for n in news if n.step is Step.ENDED and (n.task_id, n.attempt) in cancelling]
    if not results:
        return []
    moved = await stop_attempts(
        connection, [Stopped(n.task_id, n.attempt, "stopped_by_arm", n.arm_id) for n in results]
    )
    keys = {(m.task_id, m.attempt) for m in moved}
    rows = [
        (n.task_id, n.attempt, n.body.decode()) for n in results if (n.task_id, n.attempt) in keys
    ]
    if rows:
        await connection.execute(_KEPT, [list(column) for column in zip(*rows, strict=True)])
    return moved
