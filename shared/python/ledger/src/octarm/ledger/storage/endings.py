"""Transitions that no arm reports: cancel, deadlines, lost attempts, waking."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from octarm.common.bus.publisher import Outgoing
from octarm.common.storage import Pool, connected, transaction
from octarm.common.storage.connections import Connection
from octarm.ledger.domain.changes import Announce, Entry, Moved, Woken
from octarm.ledger.storage.listed import OPEN, QUEUED, WAITING, list_late
from octarm.ledger.storage.outbox import write_entry
from octarm.ledger.storage.relatives import Relatives
from octarm.ledger.storage.statements import moved_row
from octarm.ledger.storage.waking import WOKEN, woken_rows
from octarm.models.states import TaskState

LIMIT: Final = 500
STEP_GRACE_S: Final = 10.0
START_GRACE_S: Final = 60.0
# Longer than READY takes the same message for a duplicate, or reminding would be in vain.
FORGOTTEN_AFTER_S: Final = 900.0

_MOVED: Final = """
t.id, t.tenant, old.attempt, old.state, t.state, t.event_seq, t.event_seq, t.traceparent,
    t.goal, now(), old.arm_id, old.instance_id, t.not_before, old.dispatch_seq
"""
_END: Final = """
update ledger.task t set state = %(state)s, event_seq = t.event_seq + 1, lease_until = null,
    dispatch_seq = null, error = %(error)s::json, terminal_at = now(), updated_at = now()
from old where t.id = old.id returning
"""
_OLD: Final = """
id, attempt, state, arm_id, instance_id, dispatch_seq from ledger.task
"""
_OVERDUE: Final = f"""
with old as (select {_OLD} t where deadline < now() and {OPEN} and cancelling_since is null
    order by id limit {LIMIT} for update skip locked)
{_END} {_MOVED}
"""
_LOST: Final = f"""
with old as (select {_OLD} where {{found}} and cancelling_since is null
    order by id limit {LIMIT} for update skip locked)
update ledger.task t set
    state = case when t.attempt <= t.max_retries then 'waiting' else 'failed' end,
    attempt = t.attempt + case when t.attempt <= t.max_retries then 1 else 0 end,
    event_seq = t.event_seq + 1,
    not_before = now(), lease_until = null, arm_id = null, dispatch_seq = null,
    error = %(error)s::json,
    terminal_at = case when t.attempt <= t.max_retries then null else now() end,
    updated_at = now()
from old where t.id = old.id returning {_MOVED}
"""
_SILENT: Final = _LOST.format(found="lease_until < now() and terminal_at is null")
# `updated_at` is when it was placed, or told to have started, by the database's clock: an arm's
# own `started_at` proves nothing, and the news of a start may have been lost.
_HANGING: Final = _LOST.format(
    found="lease_until is not null and state in ('dispatched', 'running') and updated_at"
    f" + make_interval(secs => timeout_s + case state when 'running' then {STEP_GRACE_S}"
    f" else {START_GRACE_S} end) < now()"
)
_CLOSE_ATTEMPTS: Final = """
update ledger.attempt a set ended_at = now(), outcome = %s, reason = %s
from unnest(%s::text[], %s::int[]) as r(task_id, attempt)
where a.task_id = r.task_id and a.attempt = r.attempt and a.outcome is null
"""
# Tasks that count against a quota are queued by `PostgresQuotas` alone.
_WAKE: Final = f"""
with old as (select {_OLD} t where {WAITING} and not limited and not_before <= now()
        and not exists (select from ledger.blocked b where b.task_id = t.id)
    order by id limit {LIMIT} for update skip locked)
update ledger.task t set state = 'queued', event_seq = t.event_seq + 1, updated_at = now()
from old where t.id = old.id returning {WOKEN}
"""
_FORGOTTEN: Final = f"""
with old as (select {_OLD} t where {QUEUED}
    and updated_at < now() - make_interval(secs => {FORGOTTEN_AFTER_S})
    order by updated_at limit {LIMIT} for update skip locked)
update ledger.task t set updated_at = now() from old where t.id = old.id
returning t.id, t.tenant, t.attempt, old.state, t.state, t.event_seq, t.event_seq,
    t.traceparent, t.goal, coalesce(t.not_before, t.created_at), t.tier, t.priority, t.deadline,
    t.contract::text
"""
# What is locked is being moved on by its own news; waiting for it could only deadlock.
_RENEW: Final = """
with r as (
    select t.id, r.lease_s
    from unnest(%b::text[], %b::int[], %b::text[], %b::float8[])
        as r(id, attempt, arm_id, lease_s)
    join ledger.task t on t.id = r.id and t.attempt = r.attempt and t.arm_id = r.arm_id
    where t.state in ('dispatched', 'running') and t.lease_until is not null
    order by t.id for update of t skip locked
)
update ledger.task t set lease_until = now() + make_interval(secs => r.lease_s)
from r where t.id = r.id
"""
_SUPERSEDED: Final = """
select r.id, r.attempt, r.arm_id
from unnest(%b::text[], %b::int[], %b::text[]) as r(id, attempt, arm_id)
join ledger.task t on t.id = r.id
where t.attempt > r.attempt or t.terminal_at is not null
"""
Change = tuple[list[Moved], Entry | None]
MakeReady = Callable[[list[Woken]], list[Outgoing]]


class PostgresEndings:
    """Ends, loses and wakes tasks; every call is conditional and may be repeated."""

    def __init__(self, pool: Pool, relatives: Relatives) -> None:
        self._pool = pool
        self._relatives = relatives
        self._swept = ""

    async def time_out(self, *, reason: str, error: str, announce: Announce) -> Change:
        """End open tasks whose deadline has passed."""
        return await self._end(
            _OVERDUE, TaskState.TIMED_OUT, {}, reason=reason, error=error, announce=announce
        )

    async def lose_silent(self, *, reason: str, error: str, announce: Announce) -> Change:
        """Give up attempts whose lease has run out: the next attempt, or the end."""
        return await self._change(
            _SILENT, {"error": error}, "lost", reason=reason, announce=announce
        )

    async def lose_hanging(self, *, reason: str, error: str, announce: Announce) -> Change:
        """Give up attempts that run longer than their timeout and ten seconds."""
        return await self._change(
            _HANGING, {"error": error}, "timed_out", reason=reason, announce=announce
        )

    async def wake(self, announce: MakeReady) -> tuple[list[Woken], Entry | None]:
        """Queue waiting tasks whose time has come and that wait for nobody.

        And list what has been queued for longer than most are.
        """
        await list_late(self._pool)
        return await self._make_ready(_WAKE, announce)

    async def sweep_blocked(self) -> Entry | None:
        """Look through the next 500 tasks that wait for others: who was missed may go on.

        Whoever ends a task settles those that wait for it; this is for what that did not see.
        """
        async with transaction(self._pool) as connection:
            self._swept, messages = await self._relatives.sweep(connection, self._swept)
            return await write_entry(connection, messages)

    async def remind(self, announce: MakeReady) -> tuple[list[Woken], Entry | None]:
        """Tell again of tasks that have been queued for a quarter of an hour, at most 500.

        Their READY message may have been lost, buried or dropped; when it was not, the new
        one takes its place in the scheduler's queue. `at` is since when each may be placed.
        """
        return await self._make_ready(_FORGOTTEN, announce)

    async def _make_ready(
        self, statement: str, announce: MakeReady
    ) -> tuple[list[Woken], Entry | None]:
        async with transaction(self._pool) as connection:
            cursor = await connection.execute(statement)
            woken = await woken_rows(connection, await cursor.fetchall())
            entry = await write_entry(connection, announce(woken))
        return woken, entry

    async def renew(self, running: Sequence[tuple[str, int, str, float]]) -> None:
        """Extend leases of (task, attempt, arm) by seconds from now, by the database's clock."""
        if not running:
            return
        columns: list[Any] = [list(column) for column in zip(*running, strict=True)]
        async with connected(self._pool) as connection:
            await connection.execute(_RENEW, columns)

    async def superseded(
        self, running: Sequence[tuple[str, int, str]]
    ) -> list[tuple[str, int, str]]:
        """Give those of (task, attempt, arm) whose task has ended, or is at a later attempt."""
        columns: list[Any] = [list(column) for column in zip(*running, strict=True)]
        async with connected(self._pool) as connection:
            return await (await connection.execute(_SUPERSEDED, columns)).fetchall()

    async def _end(
        self,
        statement: str,
        state: TaskState,
        parameters: dict[str, Any],
        *,
        reason: str,
        error: str,
        announce: Announce,
    ) -> Change:
        parameters = parameters | {"state": state.value, "error": error}
        return await self._change(
            statement, parameters, state.value, reason=reason, announce=announce
        )

    async def _change(
        self,
        statement: str,
        parameters: dict[str, Any],
        outcome: str,
        *,
        reason: str,
        announce: Announce,
    ) -> Change:
        async with transaction(self._pool) as connection:
            cursor = await connection.execute(statement, parameters)
            moved = [moved_row(row) for row in await cursor.fetchall()]
            if not moved:
                return [], None
            await _close_attempts(connection, moved, outcome, reason)
            settled = await self._relatives.settle_and_book(connection, moved)
            moved = settled.moved
            entry = await write_entry(connection, announce(moved) + settled.messages)
        return moved, entry


async def _close_attempts(
    connection: Connection, moved: list[Moved], outcome: str, reason: str
) -> None:
    tried = [m for m in moved if m.arm_id is not None]
    if tried:
        await connection.execute(
            _CLOSE_ATTEMPTS,
            [outcome, reason, [m.task_id for m in tried], [m.attempt for m in tried]],
        )
