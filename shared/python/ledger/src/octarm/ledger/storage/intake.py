"""Accepting tasks: group commit, idempotency, relatives."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, LiteralString

from psycopg.errors import UniqueViolation

from octarm.common.bus.publisher import Outgoing
from octarm.common.storage import Pool, connected, transaction
from octarm.common.storage.arrays import packed
from octarm.common.storage.connections import Connection
from octarm.ledger.domain.changes import AcceptAnswer, Entry, Known, Mark, Name
from octarm.ledger.domain.plans import Place, Plan
from octarm.ledger.domain.tasks import NewTask
from octarm.ledger.domain.tenants import Tenants
from octarm.ledger.storage.budgets import reserve
from octarm.ledger.storage.known import find_held, find_known, is_same, repetition
from octarm.ledger.storage.outbox import write_entry
from octarm.ledger.storage.plainly import before_commit, is_plain, write_plainly
from octarm.ledger.storage.plans import (
    read_plan,
    take_back_dangling,
    without_waiting,
    write_edges,
    write_waiting,
)
from octarm.ledger.storage.quotas import PostgresQuotas
from octarm.ledger.storage.relatives import Relatives
from octarm.ledger.storage.task_rows import INSERT_TASKS, TASK_COLUMNS, state_of, task_row
from octarm.models.errors import OctarmError
from octarm.models.states import TaskState

_INSERT_NEW: Final = INSERT_TASKS + "on conflict do nothing returning id"
# Looking for conflicts ahead of each row costs more than the rare batch that is written again.
# Where there was one, a client repeats itself, and more of that will come.
CAREFUL_S: Final = 1.0


class PostgresIntake:
    """Writes fresh tasks."""

    def __init__(
        self, pool: Pool, relatives: Relatives, quotas: PostgresQuotas | None = None
    ) -> None:
        self._pool = pool
        self._relatives = relatives
        self._quotas = quotas or PostgresQuotas(pool, Tenants())
        self._careful_until = 0.0

    async def accept(
        self,
        tasks: Sequence[NewTask],
        announce: Callable[[list[NewTask]], list[Outgoing]],
    ) -> tuple[list[AcceptAnswer], Entry | None]:
        """Write tasks in one transaction; one answer each, in order.

        `announce` makes the messages of those that were created. A known id or idempotency
        key with the same body is answered with the task that exists, with another body with
        `Conflict`.
        """
        if self._careful_until < time.monotonic():
            try:
                if self._all_plain(tasks) and (messages := announce(list(tasks))):
                    entry = await write_plainly(self._pool, tasks, messages)
                    self._relatives.remembered.add(tasks)
                    return [Known(t.task_id, TaskState.QUEUED, True) for t in tasks], entry
                return await self._accept(tasks, announce, INSERT_TASKS)
            except UniqueViolation:
                self._careful_until = time.monotonic() + CAREFUL_S
        return await self._accept(tasks, announce, _INSERT_NEW)

    def _all_plain(self, tasks: Sequence[NewTask]) -> bool:
        if not all(map(is_plain, tasks)):
            return False
        return self._quotas.count_none_of({task.tenant for task in tasks})

    async def _accept(
        self,
        tasks: Sequence[NewTask],
        announce: Callable[[list[NewTask]], list[Outgoing]],
        insert: LiteralString,
    ) -> tuple[list[AcceptAnswer], Entry | None]:
        async with transaction(self._pool) as connection:
            plan = await read_plan(connection, tasks)
            refused = await self._too_many(connection, tasks)
            new = await self._write(connection, tasks, plan, refused, insert=insert)
            await self._quotas.mark(connection, new)
            messages = announce(new)
            if any(task.waits for task in new):
                messages += await self._wait(connection, new, plan)
            entry = await write_entry(connection, messages)
            states = {task.task_id: state_of(task) for task in new}
            known = await find_known(connection, [t for t in tasks if t.task_id not in states])
            before_commit()
        return [_answer(task, states, refused, known) for task in tasks], entry

    async def held(self, names: Sequence[Name]) -> set[Mark]:
        """Find the keys and ids among these that the ledger holds; asks nobody without any."""
        if not any(name.idem_key or name.task_id for name in names):
            return set()
        async with connected(self._pool) as connection:
            return await find_held(connection, names)

    async def look_up(self, tasks: list[NewTask]) -> list[AcceptAnswer]:
        """Answer tasks that were written before."""
        async with connected(self._pool) as connection:
            known = await find_known(connection, tasks)
        return [repetition(task, known) for task in tasks]

    async def _too_many(
        self, connection: Connection, tasks: Sequence[NewTask]
    ) -> dict[str, OctarmError]:
        """Refuse what goes beyond `max_open` of its tenant; what is known already is no more."""
        room = await self._quotas.room(connection, tasks)
        counted = [task for task in tasks if task.tenant in room]
        if all(n <= room[tenant] for tenant, n in Counter(t.tenant for t in counted).items()):
            return {}
        known = await find_known(connection, counted)
        refused: dict[str, OctarmError] = {}
        for task in counted:
            if any(is_same(task, row) for row in known):
                continue
            room[task.tenant] -= 1
            if room[task.tenant] < 0:
                refused[task.task_id] = self._quotas.refusal(task.tenant)
        return refused

    async def _write(
        self,
        connection: Connection,
        tasks: Sequence[NewTask],
        plan: Plan | None,
        refused: dict[str, OctarmError],
        *,
        insert: LiteralString,
    ) -> list[NewTask]:
        """Insert what is not refused; adds to `refused` what the plan has no place for."""
        if plan is not None:
            refused |= plan.refused
        fresh = [task for task in tasks if task.task_id not in refused]
        if plan is None:
            created = await _insert(connection, insert, fresh, {})
            return await self._reserve(connection, fresh, created, refused)
        fresh = plan.in_order(without_waiting(fresh, plan))
        created = await _insert(connection, insert, fresh, plan.places)
        refused |= await take_back_dangling(connection, fresh, plan, created)
        new = await self._reserve(connection, fresh, created, refused)
        created = {task.task_id for task in new}
        refused |= await take_back_dangling(connection, new, plan, created)
        new = _once(new, created)
        await write_edges(connection, new)
        return new

    async def _reserve(
        self,
        connection: Connection,
        fresh: list[NewTask],
        created: set[str],
        refused: dict[str, OctarmError],
    ) -> list[NewTask]:
        """Open the budgets of what was created; adds to `refused` what cannot be afforded."""
        new, unaffordable = await reserve(connection, _once(fresh, created))
        refused |= _with_twins(unaffordable, fresh)
        return new

    async def _wait(
        self, connection: Connection, new: list[NewTask], plan: Plan | None
    ) -> list[Outgoing]:
        await write_waiting(connection, [task for task in new if task.waits])
        if plan is None:
            return []
        self._relatives.any_blocked = True
        late = [task.task_id for task in new if task.waits and plan.any_ended(task)]
        return await self._relatives.look_again(connection, late) if late else []


async def _insert(
    connection: Connection,
    insert: LiteralString,
    tasks: Sequence[NewTask],
    places: dict[str, Place],
) -> set[str]:
    if not tasks:
        return set()
    rows = [task_row(task, places.get(task.task_id)) for task in tasks]
    cursor = await connection.execute(insert, packed(TASK_COLUMNS, rows))
    if insert is INSERT_TASKS:
        return {task.task_id for task in tasks}
    return {row[0] for row in await cursor.fetchall()}


def _once(tasks: Sequence[NewTask], created: set[str]) -> list[NewTask]:
    """Keep the first of each created id: a batch may hold the same task twice."""
    seen: set[str] = set()
    new: list[NewTask] = []
    for task in tasks:
        if task.task_id in created and task.task_id not in seen:
            seen.add(task.task_id)
            new.append(task)
    return new


def _with_twins(
    unaffordable: dict[str, OctarmError], tasks: list[NewTask]
) -> dict[str, OctarmError]:
    """Refuse with a task what the same batch holds under the same key."""
    if not unaffordable:
        return unaffordable
    keys = {(t.tenant, t.idem_key): t.task_id for t in tasks if t.task_id in unaffordable}
    twins = {
        t.task_id: unaffordable[keys[t.tenant, t.idem_key]]
        for t in tasks
        if t.idem_key is not None and (t.tenant, t.idem_key) in keys
    }
    return unaffordable | twins


def _answer(
    task: NewTask,
    states: dict[str, TaskState],
    refused: dict[str, OctarmError],
    known: list[tuple[Any, ...]],
) -> AcceptAnswer:
    if task.task_id in states:
        return Known(task.task_id, states[task.task_id], created=True)
    if task.task_id in refused and not any(is_same(task, row) for row in known):
        return refused[task.task_id]
    return repetition(task, known)
