"""What the end of a task means for others, on the tables of the simulated ledger.

Each function is what one or two statements of `storage/relatives.py`, `cancelling.py`,
`rejecting.py` and `stopping.py` do; `tests/contract/test_sim_ledger.py` holds them to Postgres.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from octarm.common.bus.publisher import Outgoing
from octarm.ledger.domain.changes import Entry, Moved, Stopped, Stopping, Stray, Unwanted
from octarm.ledger.domain.news import AttemptNews, Step
from octarm.ledger.storage.relatives import DEPENDENCY_FAILED, PARENT_ENDED
from octarm.models.states import TERMINAL, TaskState
from octarm.orchestrator.usecases.tell import TellOwn

if TYPE_CHECKING:
    from tests.simulation.rows import TaskRow
    from tests.simulation.tables import Tables

S: Final = TaskState
TELLS: Final = TellOwn(1)
HELD: Final = (S.DISPATCHED, S.RUNNING)


def settle(tables: "Tables", moved: Iterable[Moved]) -> list[Outgoing]:
    """End or wake whom the end of these concerns."""
    ended = [change for change in moved if change.new in TERMINAL]
    names = {change.task_id for change in ended}
    failed = {change.task_id for change in ended if change.new is not S.COMPLETED}
    messages: list[Outgoing] = []
    if failed:
        also, messages = _fail(tables, failed)
        names |= also
    waiters = [row for row in tables.blocked() if names & set(row.task.depends_on)]
    return messages + free(tables, waiters)


def _fail(tables: "Tables", failed: set[str]) -> tuple[set[str], list[Outgoing]]:
    messages: list[Outgoing] = []
    ended: set[str] = set()
    while failed:
        below = [r for r in tables.tasks.values() if _is_below(tables, r, failed)]
        called_off, orphans = call_off(tables, below, lambda _: PARENT_ENDED.model_dump_json())
        broken = _break(tables, failed | called_off)
        messages += TELLS.ended(orphans, PARENT_ENDED) + TELLS.ended(broken, DEPENDENCY_FAILED)
        failed = {change.task_id for change in broken}
        ended |= {change.task_id for change in orphans} | failed
    return ended, messages


def _is_below(tables: "Tables", row: "TaskRow", tops: Collection[str]) -> bool:
    parent = row.task.parent_id
    while parent is not None:
        if parent in tops:
            return True
        parent = tables.tasks[parent].task.parent_id
    return False


def call_off(
    tables: "Tables", rows: Iterable["TaskRow"], error: Any
) -> tuple[set[str], list[Moved]]:
    """Call off what is open; gives whom it concerned, and who ended at once."""
    concerned: set[str] = set()
    ended: list[Moved] = []
    for row in sorted(rows, key=lambda row: row.task.task_id):
        if row.state in TERMINAL or row.cancelling_since is not None:
            continue
        concerned.add(row.task.task_id)
        row.error, row.updated_at = error(row), tables.now()
        if row.state in HELD:
            row.cancelling_since = tables.now()
            continue
        row.proof = "stopped_by_arm" if row.state is S.VALIDATING else "never_started"
        ended.append(_end(tables, row, S.CANCELLED))
    return concerned, ended


def _end(tables: "Tables", row: "TaskRow", state: TaskState, events: int = 1) -> Moved:
    old, dispatch_seq, first_seq = row.state, row.dispatch_seq, row.event_seq + 1
    row.event_seq += events
    row.lease_until = row.dispatch_seq = row.cancelling_since = None
    row.blocked = False
    row.updated_at = tables.now()
    tables.end(row, state)
    moved = tables.moved(row, old, row.attempt, first_seq, arm_id=row.arm_id)
    return replace(
        moved, dispatch_seq=dispatch_seq, reason="called off", proof=row.proof, not_before=None
    )


def _break(tables: "Tables", failed: set[str]) -> list[Moved]:
    hit: list[TaskRow] = []
    names = set(failed)
    while True:
        more = [
            row
            for row in tables.blocked()
            if row not in hit
            and row.task.on_dependency_failure != "continue"
            and names & set(row.task.depends_on)
        ]
        if not more:
            break
        hit += more
        names |= {row.task.task_id for row in more}
    moved = []
    for row in sorted(hit, key=lambda row: row.task.task_id):
        row.error = DEPENDENCY_FAILED.model_dump_json()
        skipped = row.task.on_dependency_failure == "skip"
        row.proof = "never_started" if skipped else None
        moved.append(_end(tables, row, S.CANCELLED if skipped else S.FAILED))
    return moved


def free(tables: "Tables", waiters: Iterable["TaskRow"]) -> list[Outgoing]:
    """Make ready those that wait for nobody any more."""
    now, woken = tables.now(), []
    for row in sorted(waiters, key=lambda row: row.task.task_id):
        if row.blocked and _is_free(tables, row):
            row.blocked = False
            if row.not_before is None or row.not_before <= now:
                woken.append(tables.queue(row))
    return TELLS.woken(woken) if woken else []


def _is_free(tables: "Tables", row: "TaskRow") -> bool:
    states = [tables.tasks[need].state for need in row.task.depends_on if need in tables.tasks]
    if row.task.on_dependency_failure == "continue":
        return all(state in TERMINAL for state in states)
    return all(state is S.COMPLETED for state in states)


def look_again(tables: "Tables", rows: Sequence["TaskRow"]) -> list[Outgoing]:
    """End or make ready those of these waiting tasks whose dependencies allow it."""
    failed = {
        need
        for row in rows
        if row.blocked and row.task.on_dependency_failure != "continue"
        for need in row.task.depends_on
        if need in tables.tasks and tables.tasks[need].state in TERMINAL - {S.COMPLETED}
    }
    messages = _fail(tables, failed)[1] if failed else []
    return messages + free(tables, rows)


def cancel(
    tables: "Tables", task_id: str, tenant: str, *, error: str, inherited: str, announce: Any
) -> tuple[int, Entry | None]:
    """Call off a task and every open one below it."""
    top = tables.tasks.get(task_id)
    if top is None or top.task.tenant != tenant:
        return 0, None
    rows = [top, *(r for r in tables.tasks.values() if _is_below(tables, r, {task_id}))]
    called_off, ended = call_off(tables, rows, lambda row: error if row is top else inherited)
    return len(called_off), tables.write_entry(announce(ended) + settle(tables, ended))


def reject(
    tables: "Tables", unwanted: Sequence[Unwanted], announce: Any
) -> tuple[list[Moved], Entry | None]:
    """End what is queued still at its attempt, as rejected."""
    moved = []
    for item in sorted(unwanted, key=lambda item: item.task_id):
        row = tables.open.get(item.task_id)
        if row is None or row.state is not S.QUEUED or row.attempt != item.attempt:
            continue
        if row.arm_id is None and row.cancelling_since is None:
            row.error = item.error
            change = replace(_end(tables, row, S.REJECTED), reason=None, instance_id=None)
            moved.append(replace(change, error=item.error.encode()))
    return moved, tables.write_entry(announce(moved) + settle(tables, moved))


def stopping(
    tables: "Tables", force_s: float, task_ids: Sequence[str] | None = None
) -> list[Stopping]:
    """List attempts that were called off and have not ended."""
    now, found = tables.now(), []
    for name, row in tables.open.items():
        if row.cancelling_since is None or (task_ids is not None and name not in task_ids):
            continue
        attempt = tables.attempts.get((name, row.attempt))
        found.append(
            Stopping(
                name,
                row.attempt,
                row.arm_id or "",
                attempt.instance_id if attempt else None,
                row.dispatch_seq if row.state is S.DISPATCHED else None,
                row.state is not S.DISPATCHED or bool(attempt and attempt.started_at),
                "called off",
                row.cancelling_since < now - timedelta(seconds=force_s),
                row.lease_until is None or row.lease_until < now,
            )
        )
    return found


def stop(tables: "Tables", proofs: Sequence[Stopped]) -> list[Moved]:
    """End the tasks of attempts that have stopped; each proof is checked again."""
    moved = []
    for item in sorted(proofs, key=lambda item: item.task_id):
        row = tables.open.get(item.task_id)
        if row is None or row.cancelling_since is None or row.attempt != item.attempt:
            continue
        attempt = tables.attempts.get((item.task_id, item.attempt))
        started = row.state is not S.DISPATCHED or bool(attempt and attempt.started_at)
        leased = row.lease_until is not None and row.lease_until >= tables.now()
        if (
            (item.arm_id is not None and item.arm_id != row.arm_id)
            or (item.proof == "never_started" and started)
            or (item.proof == "lease_ended" and leased)
        ):
            continue
        row.proof = item.proof
        events = 2 if item.arm_id is not None and row.state is S.DISPATCHED else 1
        change = _end(tables, row, S.CANCELLED, events)
        tables.prove(change)
        moved.append(change)
    return moved


def stop_by_results(
    tables: "Tables", strays: Sequence[Stray], news: Sequence[AttemptNews]
) -> list[Moved]:
    """End the cancelling tasks whose results these are."""
    cancelling = {(s.task_id, s.attempt) for s in strays if s.cancelling}
    results = [n for n in news if n.step is Step.ENDED and n.key in cancelling]
    moved = stop(
        tables, [Stopped(n.task_id, n.attempt, "stopped_by_arm", n.arm_id) for n in results]
    )
    keys = {(m.task_id, m.attempt) for m in moved}
    for item in results:
        if item.key in keys:
            tables.late.setdefault(item.key, item.body)
    return moved
