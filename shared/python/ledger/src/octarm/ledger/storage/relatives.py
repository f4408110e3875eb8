"""What the end of a task means for others: its children, and those that wait for it.

A task that waits for others has a row in `blocked`. Who ends a task locks the rows of those
that wait for it, so that of two dependencies that complete at once the second sees the first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import msgspec

from octarm.common.bus.publisher import Outgoing
from octarm.common.storage.connections import Connection
from octarm.common.telemetry.tracing import is_sampled
from octarm.ledger.domain.changes import Moved, Woken
from octarm.ledger.domain.lifecycle import OPEN
from octarm.ledger.storage.budgets import Timed, keep_books
from octarm.ledger.storage.remembered import Remembered
from octarm.ledger.storage.statements import CALL_OFF, called_off_row
from octarm.ledger.storage.waking import WOKEN, woken_rows
from octarm.models.errors import Problem, TaskFailed
from octarm.models.states import TaskState

PAGE: Final = 500
PARENT_ENDED: Final = TaskFailed("its parent did not complete", code="CANCELLED").problem()
DEPENDENCY_FAILED: Final = TaskFailed(
    "a task it depends on did not complete",
    "Mend that task and submit both again, or say on_dependency_failure.",
    "DEPENDENCY_FAILURE",
).problem()

_CONCERNED: Final = """
select exists (select from ledger.task where parent_id = any(%(ids)s)),
    exists (select from ledger.dependency d join ledger.blocked b on b.task_id = d.task_id
        where d.needs_task_id = any(%(ids)s))
"""
_ORPHANED: Final = CALL_OFF.format(seeds="parent_id = any(%(ids)s)")
# Whom to end is found without a lock and stays true: a task that did not complete never will.
_BROKEN: Final = """
with recursive hit(id) as (
    select b.task_id from ledger.dependency d join ledger.blocked b on b.task_id = d.task_id
    where d.needs_task_id = any(%(ids)s) and b.on_failure <> 'continue'
    union
    select b.task_id from hit join ledger.dependency d on d.needs_task_id = hit.id
    join ledger.blocked b on b.task_id = d.task_id where b.on_failure <> 'continue'
), old as (
    select t.id, t.attempt, t.state, b.on_failure from ledger.task t
    join hit on hit.id = t.id join ledger.blocked b on b.task_id = t.id
    where t.state = 'waiting' order by t.id for update of t
)
update ledger.task t set state = case on_failure when 'skip' then 'cancelled' else 'failed' end,
    proof = case on_failure when 'skip' then 'never_started' end,
    event_seq = t.event_seq + 1, error = %(error)s::json, terminal_at = now(), updated_at = now()
from old where t.id = old.id
returning t.id, t.tenant, old.attempt, old.state, t.state, t.event_seq, t.event_seq,
    t.traceparent, t.goal, now(), null::text, null::text, null::timestamptz, null::bigint,
    t.error ->> 'detail', t.proof
"""
_UNBLOCK: Final = "delete from ledger.blocked where task_id = any(%s)"
_WAITERS: Final = f"""
select b.task_id from ledger.blocked b where b.task_id in (
    select d.task_id from ledger.dependency d where d.needs_task_id = any(%s))
order by b.task_id limit {PAGE} for update
"""
_FREE: Final = f"""
with free as (
    delete from ledger.blocked b where b.task_id = any(%s) and not exists (
        select from ledger.dependency d join ledger.task n on n.id = d.needs_task_id
        where d.task_id = b.task_id and case b.on_failure when 'continue'
            then n.terminal_at is null else n.state <> 'completed' end)
    returning b.task_id
), old as (
    select t.id, t.state from ledger.task t join free on free.task_id = t.id
    where t.state = 'waiting' and not t.limited and (t.not_before is null or t.not_before <= now())
    order by t.id for update of t
)
update ledger.task t set state = 'queued', event_seq = t.event_seq + 1, updated_at = now()
from old where t.id = old.id returning {WOKEN}
"""
_BLOCKED: Final = f"""
select b.task_id, t.state is distinct from 'waiting' from ledger.blocked b
left join ledger.task t on t.id = b.task_id
where b.task_id > %s order by b.task_id limit {PAGE} for update of b skip locked
"""
_FAILED_NEEDS: Final = """
select distinct n.id from ledger.dependency d join ledger.task n on n.id = d.needs_task_id
join ledger.blocked b on b.task_id = d.task_id
where d.task_id = any(%s) and n.terminal_at is not null and n.state <> 'completed'
    and b.on_failure <> 'continue'
"""
Row = tuple[Any, ...]


class _Needs(msgspec.Struct):
    depends_on: tuple[str, ...] = ()


_needs: Final = msgspec.json.Decoder(_Needs).decode


def _after(task: Woken, ended: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(ended[needed] for needed in _needs(task.contract).depends_on if needed in ended)


class Tells(Protocol):
    """Makes the messages of what the ledger itself decided."""

    def ended(self, moved: list[Moved], problem: Problem) -> list[Outgoing]:
        """Tell of tasks that ended."""
        ...

    def woken(self, woken: list[Woken]) -> list[Outgoing]:
        """Tell of tasks that became ready."""
        ...

    def ready(self, woken: list[Woken]) -> list[Outgoing]:
        """Let the schedulers alone know of ready tasks."""
        ...


@dataclass(frozen=True, slots=True)
class Settled:
    """What a transaction moved, as it stands after its budgets, and what else is to be told."""

    moved: list[Moved]
    messages: list[Outgoing]


class Relatives:
    """Ends or wakes whom the end of a task concerns, in the transaction that ends it.

    While no task waits for others a completed task costs nothing here. `any_blocked` is what
    this process knows of that; `sweep` corrects it, and finds whom another process made wait.
    `remembered` are the fresh tasks that it accepted itself.
    """

    def __init__(self, tells: Tells) -> None:
        self.tells = tells
        self.any_blocked = True
        self.remembered = Remembered()

    def are_unmoved_by(self, completed: Sequence[Moved]) -> bool:
        """Whether tasks that completed, without a budget, concern nobody else."""
        return not (self.any_blocked or any(change.budgeted for change in completed))

    async def settle_and_book(
        self,
        connection: Connection,
        moved: Sequence[Moved],
        times: Sequence[Timed] = (),
    ) -> Settled:
        """Settle what moved, then bring the budgets of all that ended up to date.

        Rows of tasks are locked before those of budgets. For the rare task whose retry no
        budget covers there is a second round; whom it ends is booked by the next sweep.
        """
        others, messages, freed = await self._settle(connection, moved)
        booked = await keep_books(connection, [*moved, *others], times=times)
        own = booked[: len(moved)]
        ended_late = [now for now, was in zip(own, moved, strict=True) if now.new is not was.new]
        if ended_late:
            _, more, freed_late = await self._settle(connection, ended_late)
            messages += more
            freed += freed_late
        ended = {m.task_id: m.traceparent for m in moved if is_sampled(m.traceparent)}
        return Settled(own, messages + await self._tell_freed(connection, freed, ended))

    async def _settle(
        self, connection: Connection, moved: Sequence[Moved]
    ) -> tuple[list[Moved], list[Outgoing], list[Row]]:
        """Draw the consequences; gives who else ended, what to tell, and who is ready now."""
        ended = [change.task_id for change in moved if change.new.is_terminal]
        failed = [
            m.task_id for m in moved if m.new.is_terminal and m.new is not TaskState.COMPLETED
        ]
        others: list[Moved] = []
        messages: list[Outgoing] = []
        freed: list[Row] = []
        if failed and await self._concerned(connection, failed):
            others, messages = await self._fail(connection, failed)
            ended += [change.task_id for change in others]
        if ended and self.any_blocked:
            cursor = await connection.execute(_WAITERS, [ended])
            waiters = [row[0] for row in await cursor.fetchall()]
            if waiters:
                freed = await self._free(connection, waiters)
        return others, messages, freed

    async def _concerned(self, connection: Connection, failed: list[str]) -> bool:
        row = await (await connection.execute(_CONCERNED, {"ids": failed})).fetchone()
        return row is not None and any(row)

    async def _fail(
        self, connection: Connection, failed: list[str]
    ) -> tuple[list[Moved], list[Outgoing]]:
        """Call off children and end dependants until there are no more of either."""
        messages: list[Outgoing] = []
        ended: list[Moved] = []
        while failed:
            called_off, orphans = await self._orphan(connection, failed)
            broken = await self._moved(
                connection,
                _BROKEN,
                {"ids": failed + called_off, "error": DEPENDENCY_FAILED.model_dump_json()},
            )
            messages += self.tells.ended(orphans, PARENT_ENDED)
            messages += self.tells.ended(broken, DEPENDENCY_FAILED)
            failed = [change.task_id for change in broken]
            ended += orphans + broken
        if ended:
            await connection.execute(_UNBLOCK, [[change.task_id for change in ended]])
        return ended, messages

    async def _orphan(
        self, connection: Connection, parents: list[str]
    ) -> tuple[list[str], list[Moved]]:
        """Call off all that is open below these; gives whom it concerned and who has ended."""
        error = PARENT_ENDED.model_dump_json()
        parameters: dict[str, Any] = {"ids": parents, "open": OPEN, "id": ""}
        parameters |= {"error": error, "inherited": error}
        concerned: list[Moved] = []
        while rows := await self._moved(connection, _ORPHANED, parameters):
            concerned += rows
        ids = [change.task_id for change in concerned]
        return ids, [change for change in concerned if change.new.is_terminal]

    async def _free(self, connection: Connection, waiters: list[str]) -> list[Row]:
        """Make ready those of these tasks that wait for nobody any more."""
        return await (await connection.execute(_FREE, [waiters])).fetchall()

    async def _tell_freed(
        self, connection: Connection, freed: list[Row], ended: Mapping[str, str]
    ) -> list[Outgoing]:
        """Tell who became ready, once the budgets are booked: what is left is told with it.

        `ended` has the sampled traces of those that ended now, by task.
        """
        woken = await woken_rows(connection, freed)
        if ended:
            woken = [replace(task, after=_after(task, ended)) for task in woken]
        return self.tells.woken(woken) if woken else []

    async def sweep(self, connection: Connection, after: str) -> tuple[str, list[Outgoing]]:
        """Look through the next 500 waiting tasks for what was missed; gives where to go on."""
        cursor = await connection.execute(_BLOCKED, [after])
        rows = await cursor.fetchall()
        if not after:
            self.any_blocked = bool(rows)
        if not rows:
            return "", []
        gone = [task_id for task_id, is_gone in rows if is_gone]
        if gone:
            await connection.execute(_UNBLOCK, [gone])
        messages = await self.look_again(connection, [row[0] for row in rows if not row[1]])
        return rows[-1][0] if len(rows) == PAGE else "", messages

    async def look_again(self, connection: Connection, waiting: list[str]) -> list[Outgoing]:
        """End or make ready those of these waiting tasks whose dependencies allow it."""
        cursor = await connection.execute(_FAILED_NEEDS, [waiting])
        failed = [row[0] for row in await cursor.fetchall()]
        messages: list[Outgoing] = []
        if failed:
            ended, messages = await self._fail(connection, failed)
            await keep_books(connection, ended)
        freed = await self._free(connection, waiting)
        return messages + await self._tell_freed(connection, freed, {})

    async def _moved(
        self, connection: Connection, statement: str, parameters: dict[str, Any]
    ) -> list[Moved]:
        cursor = await connection.execute(statement, parameters)
        return [called_off_row(row) for row in await cursor.fetchall()]
