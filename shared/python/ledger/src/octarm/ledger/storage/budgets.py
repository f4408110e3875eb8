"""Budgets in Postgres: the rows that one transaction changes, locked in the order of their ids.

Every transaction that touches budgets locks all the rows it may need at once, after the rows
of tasks and attempts: so two of them never deadlock, and what is read stays true until commit.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final

from msgspec import structs

from octarm.common.storage.connections import Connection
from octarm.ledger.domain.budgets import (
    UNLIMITED,
    Account,
    Accounts,
    Amounts,
    Limits,
    used_up,
)
from octarm.ledger.domain.changes import Moved, Stray
from octarm.ledger.domain.news import AttemptNews
from octarm.ledger.domain.tasks import NewTask
from octarm.models.errors import BudgetExceeded, OctarmError
from octarm.models.states import TaskState

_NAMES: Final = ("tokens", "microdollars", "calls", "ms")
_KINDS: Final = ("reserved", "spent", "over", "used")
_GRANTED: Final = [f"granted_{name}" for name in _NAMES]
_SUMS: Final = [f"{kind}_{name}" for kind in _KINDS for name in _NAMES]
_BIGINTS: Final = ", ".join(["%b::bigint[]"] * 4)

_READ: Final = f"""
select task_id, parent_id, settled_at is not null, version, {", ".join(_GRANTED + _SUMS)}
from ledger.budget where task_id = any(array(
    select distinct unnest(path) from ledger.budget where task_id = any(%b::text[])))
order by task_id
"""
_LOCK: Final = _READ + " for update"
_INSERT: Final = f"""
insert into ledger.budget (task_id, parent_id, path, {", ".join(_GRANTED)})
select r.task_id, r.parent_id, coalesce(p.path, '{{}}') || r.task_id, {", ".join(_GRANTED)}
from unnest(%b::text[], %b::text[], {_BIGINTS}) as r(task_id, parent_id, {", ".join(_GRANTED)})
left join (select task_id as id, path from ledger.budget) p on p.id = r.parent_id
"""
_WRITE: Final = f"""
update ledger.budget b set {", ".join(f"{name} = r.{name}" for name in _SUMS)},
    settled_at = case when r.settled then coalesce(b.settled_at, now()) end,
    version = b.version + 1
from unnest(%b::text[], %b::int[], %b::bool[], {", ".join([_BIGINTS] * 4)})
as r(task_id, version, settled, {", ".join(_SUMS)})
where b.task_id = r.task_id and b.version = r.version
"""
_UNDO: Final = "delete from ledger.task where id = any(%b::text[])"
# An attempt that told no time (it was lost, or cut short) is charged from its start to its end.
# Task by task through the index, whatever the planner believes of tables that have just grown.
_USED: Final = """
select r.id, u.* from unnest(%b::text[]) as r(id) cross join lateral (
    select coalesce(sum(a.tokens_used), 0)::bigint, coalesce(sum(a.cost_microdollars), 0)::bigint,
        coalesce(sum(a.llm_calls), 0)::bigint, coalesce(sum(coalesce(a.time_ms,
            case when a.ended_at > a.started_at then least(
                (select t.timeout_s from ledger.task t where t.id = a.task_id) * 1000,
                extract(epoch from a.ended_at - a.started_at) * 1000) else 0 end)), 0)::bigint
    from ledger.attempt a where a.task_id = r.id) u
"""
_TIMES: Final = """
update ledger.attempt a set time_ms = coalesce(a.time_ms, r.ms)
from unnest(%b::text[], %b::int[], %b::bigint[]) as r(task_id, attempt, ms)
where a.task_id = r.task_id and a.attempt = r.attempt
"""
_STOP: Final = """
update ledger.task t set state = 'failed', attempt = r.attempt, arm_id = r.arm_id,
    not_before = null, error = r.error::json, terminal_at = now()
from unnest(%b::text[], %b::int[], %b::text[], %b::text[]) as r(id, attempt, arm_id, error)
where t.id = r.id and t.state = 'waiting' and t.attempt = r.attempt + 1
returning t.id
"""
Timed = tuple[str, int, int]


async def reserve(
    connection: Connection, tasks: Sequence[NewTask]
) -> tuple[list[NewTask], dict[str, OctarmError]]:
    """Open the budgets of tasks that were just written, in order; their rows exist already.

    Gives the tasks that stay, each with what it may use, and why the others were taken out
    again: what is left above did not cover them.
    """
    wanting = [task for task in tasks if task.parent_id or task.grant != UNLIMITED]
    if not wanting:
        return list(tasks), {}
    parents = {task.parent_id for task in wanting if task.parent_id}
    accounts = await _locked(connection, parents)
    opened: list[Account] = []
    refused: dict[str, OctarmError] = {}
    for task in wanting:
        if task.grant == UNLIMITED and (task.parent_id or "") not in accounts:
            continue
        try:
            opened.append(accounts.open(task.task_id, task.parent_id, task.grant))
        except BudgetExceeded as error:
            refused[task.task_id] = error
    if refused:
        await connection.execute(_UNDO, [list(refused)])
    if opened:
        rows = [(account.task_id, account.parent_id, *account.granted) for account in opened]
        await connection.execute(_INSERT, columns(rows))
        await _write(connection, accounts)
    kept = [task for task in tasks if task.task_id not in refused]
    return [_with_left(task, accounts) for task in kept], refused


async def keep_books(
    connection: Connection,
    moved: Sequence[Moved],
    *,
    also: Iterable[str] = (),
    times: Sequence[Timed] = (),
) -> list[Moved]:
    """Bring the budgets of moved tasks up to date with their attempts; repeatable.

    Ended tasks are settled. A task that waits for its next attempt with nothing left for it
    fails instead: its transition is given back changed. `also` names tasks that used something
    without moving; `times` (task, attempt, ms) tell how long attempts took, late ones too.
    """
    due = {m.task_id for m in moved if m.budgeted and (m.new.is_terminal or _retries(m))}
    stray = {timed[0] for timed in times} - {m.task_id for m in moved}
    ids = due | stray | {*also}
    if not ids:
        return list(moved)
    known = [timed for timed in times if timed[0] in ids]
    if known:
        await connection.execute(_TIMES, columns(known))
    accounts = await _locked(connection, ids)
    booked = await _book(connection, accounts, ids)
    if not booked:
        return list(moved)
    stopped = {
        m.task_id: _stopped(m, what)
        for m in moved
        if m.task_id in booked and _retries(m)
        if (what := used_up(accounts.left(m.task_id))) is not None
    }
    if stopped:
        await _stop(connection, list(stopped.values()))
    changed = [stopped.get(m.task_id, m) for m in moved]
    for m in changed:
        if m.task_id in booked and m.new.is_terminal:
            accounts.settle(m.task_id)
    await _write(connection, accounts)
    return changed


def times_of(
    news: Sequence[AttemptNews], moved: set[tuple[str, int]], strays: list[Stray]
) -> list[Timed]:
    """Say how long attempts took whose results were taken, also the late ones."""
    own = {(stray.task_id, stray.attempt): stray for stray in strays}
    return [
        (n.task_id, n.attempt, n.result.execution_time_ms)
        for n in news
        if n.result is not None
        and (n.key in moved or ((s := own.get(n.key)) and not s.is_foreign_to(n.arm_id)))
    ]


async def settle(connection: Connection, task_ids: Collection[str]) -> int:
    """Book and settle ended tasks; gives how many have a budget."""
    accounts = await _locked(connection, task_ids)
    booked = await _book(connection, accounts, task_ids)
    for task_id in booked:
        accounts.settle(task_id)
    await _write(connection, accounts)
    return len(booked)


async def what_is_left(connection: Connection, task_ids: Collection[str]) -> dict[str, Limits]:
    """Say what tasks may still use; those without any limit are left out."""
    accounts = await _accounts(connection, _READ, task_ids)
    lefts = {task_id: accounts.left(task_id) for task_id in task_ids if task_id in accounts}
    return {task_id: left for task_id, left in lefts.items() if left != UNLIMITED}


async def _locked(connection: Connection, task_ids: Collection[str]) -> Accounts:
    return await _accounts(connection, _LOCK, task_ids)


async def _accounts(connection: Connection, sql: str, task_ids: Collection[str]) -> Accounts:
    if not task_ids:
        return Accounts([])
    cursor = await connection.execute(sql, [sorted(task_ids)])
    return Accounts(_account(row) for row in await cursor.fetchall())


def _account(row: tuple[Any, ...]) -> Account:
    task_id, parent_id, settled, version, *amounts = row
    granted, reserved, spent, over, used = (amounts[at : at + 4] for at in range(0, 20, 4))
    return Account(
        task_id,
        parent_id,
        (granted[0], granted[1], granted[2], granted[3]),
        reserved=reserved,
        spent=spent,
        over=over,
        used=used,
        settled=settled,
        version=version,
    )


async def _book(connection: Connection, accounts: Accounts, ids: Iterable[str]) -> set[str]:
    """Book what the attempts of `ids` have used; gives those that have a budget.

    Read by a statement after the lock, so that it sees what whoever had the lock has written.
    """
    budgeted = sorted(task_id for task_id in ids if task_id in accounts)
    if budgeted:
        cursor = await connection.execute(_USED, [budgeted])
        for task_id, *used in await cursor.fetchall():
            accounts.book(task_id, _four(used))
    return set(budgeted)


def _four(used: list[int]) -> Amounts:
    tokens, cost, calls, time = used
    return (tokens, cost, calls, time)


async def _write(connection: Connection, accounts: Accounts) -> None:
    changed = accounts.changed()
    if not changed:
        return
    rows = [
        (a.task_id, a.version, a.settled, *a.reserved, *a.spent, *a.over, *a.used) for a in changed
    ]
    cursor = await connection.execute(_WRITE, columns(rows))
    if cursor.rowcount != len(changed):
        raise OctarmError("a budget was changed by somebody who did not lock it")


async def _stop(connection: Connection, stopped: list[Moved]) -> None:
    rows = [(m.task_id, m.attempt, m.arm_id, m.error.decode()) for m in stopped]
    await connection.execute(_STOP, columns(rows))


def _retries(moved: Moved) -> bool:
    return moved.new is TaskState.WAITING and moved.old is not TaskState.WAITING


def _stopped(moved: Moved, what: str) -> Moved:
    error = BudgetExceeded(
        f"attempt {moved.attempt} failed, and no {what} are left for another",
        "Read the attempts for what went wrong; submit it again with a larger budget.",
    )
    body = error.problem().model_dump_json().encode()
    return structs.replace(moved, new=TaskState.FAILED, not_before=None, error=body)


def _with_left(task: NewTask, accounts: Accounts) -> NewTask:
    if task.task_id not in accounts:
        return task
    left = accounts.left(task.task_id)
    return task if left == task.grant else structs.replace(task, left=left)


def columns(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Turn rows round, for `unnest`."""
    return [list(column) for column in zip(*rows, strict=True)]
