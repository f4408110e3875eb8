"""Pieces of SQL that several adapters of the ledger share, and how their rows are read."""

from typing import Any, Final

from msgspec.structs import replace

from octarm.ledger.domain.changes import Moved
from octarm.models.states import TaskState

# While its arm has an attempt the task keeps its state and its lease; `error` already says why.
CALL_OFF: Final = """
with recursive tree(id) as (
    select id from ledger.task where {seeds}
    union
    select c.id from tree join ledger.task c on c.parent_id = tree.id
), old as (
    select t.id, t.attempt, t.state, t.event_seq, t.arm_id, t.instance_id, t.dispatch_seq,
        t.state in ('dispatched', 'running') as at_arm
    from ledger.task t join tree on tree.id = t.id
    where t.state = any(%(open)s) and t.cancelling_since is null
    order by t.id for update of t
)
update ledger.task t set
    state = case when at_arm then t.state else 'cancelled' end,
    cancelling_since = case when at_arm then now() end,
    proof = case when at_arm then null when old.state = 'validating' then 'stopped_by_arm'
        else 'never_started' end,
    event_seq = t.event_seq + case when at_arm then 0 else 1 end,
    lease_until = case when at_arm then t.lease_until end,
    dispatch_seq = case when at_arm then t.dispatch_seq end,
    error = case when t.id = %(id)s then %(error)s else %(inherited)s end::json,
    terminal_at = case when at_arm then null else now() end,
    updated_at = now()
from old where t.id = old.id
returning t.id, t.tenant, old.attempt, old.state, t.state, t.event_seq, t.event_seq,
    t.traceparent, t.goal, now(), old.arm_id, old.instance_id, null::timestamptz,
    old.dispatch_seq, t.error ->> 'detail', t.proof
"""


def called_off_row(row: tuple[Any, ...]) -> Moved:
    """Read the columns of a transition that ends with the reason and the proof."""
    return replace(moved_row(row[:-2]), reason=row[-2], proof=row[-1])


def moved_row(row: tuple[Any, ...]) -> Moved:
    """Read the columns that every transition returns, in their order."""
    task_id, tenant, attempt, old, new, *rest = row
    return Moved(task_id, tenant, attempt, TaskState(old), TaskState(new), *rest)
