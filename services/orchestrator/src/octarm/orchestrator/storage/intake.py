"""Accepting tasks: group commit, idempotency, relatives."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from octarm.common.bus.publisher import Outgoing
from octarm.common.failpoints import failpoint
from octarm.common.storage import Pool, connected, transaction
from octarm.common.storage.arrays import Byteas, Int4s, Texts, Timestamps, packed
from octarm.common.storage.connections import Connection
from octarm.models.errors import Conflict, InvalidRequest, NotFound, OctarmError
from octarm.models.states import TaskState
from octarm.orchestrator.domain.changes import AcceptAnswer, Entry, Known, Mark, Name
from octarm.orchestrator.domain.tasks import NewTask
from octarm.orchestrator.domain.tenants import Tenants
from octarm.orchestrator.storage.budgets import reserve
from octarm.orchestrator.storage.known import find_held, find_known, is_same, repetition
from octarm.orchestrator.storage.outbox import write_entry
from octarm.orchestrator.storage.quotas import PostgresQuotas

MAX_DEPTH: Final = 5
MAX_CHILDREN: Final = 100
MAX_DESCENDANTS: Final = 1000

_INSERT: Final = """
insert into ledger.task (id, tenant, idem_key, req_hash, state, event_seq, deadline, timeout_s,
    max_retries, priority, tier, parent_id, root_id, depth, labels, goal, contract, traceparent,
    created_at)
select id, tenant, idem_key, req_hash, state, event_seq, deadline, timeout_s, max_retries,
    priority, tier, parent_id, root_id, depth, labels::jsonb, goal, contract::json, traceparent,
    created_at
from unnest(%b::text[], %b::text[], %b::text[], %b::bytea[], %b::text[], %b::int[],
    %b::timestamptz[], %b::int[], %b::int[], %b::int[], %b::text[], %b::text[], %b::text[],
    %b::int[], %b::text[], %b::text[], %b::text[], %b::text[], %b::timestamptz[])
as r(id, tenant, idem_key, req_hash, state, event_seq, deadline, timeout_s, max_retries,
    priority, tier, parent_id, root_id, depth, labels, goal, contract, traceparent, created_at)
on conflict do nothing
returning id
"""
_COLUMNS: Final = (
    *(Texts, Texts, Texts, Byteas, Texts, Int4s, Timestamps, Int4s, Int4s, Int4s, Texts, Texts),
    *(Texts, Int4s, Texts, Texts, Texts, Texts, Timestamps),
)
_RELATIVES: Final = """
select p.id, p.tenant, p.root_id, p.depth, p.state,
    (select count(*) from ledger.task c where c.root_id = p.root_id and c.depth > 0),
    (select count(*) from ledger.task c
     where c.root_id = p.root_id and c.depth > 0 and c.parent_id = p.id)
from ledger.task p where p.id = any(%b::text[])
"""
_EDGES: Final = """
insert into ledger.dependency (task_id, needs_task_id)
select * from unnest(%b::text[], %b::text[]) on conflict do nothing
"""


class _Place:
    """Where a task stands in its tree."""

    __slots__ = ("depth", "root_id")

    def __init__(self, root_id: str, depth: int) -> None:
        self.root_id = root_id
        self.depth = depth


class PostgresIntake:
    """Writes fresh tasks."""

    def __init__(self, pool: Pool, quotas: PostgresQuotas | None = None) -> None:
        self._pool = pool
        self._quotas = quotas or PostgresQuotas(pool, Tenants())

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
        async with transaction(self._pool) as connection:
            places, refused = await self._places(connection, tasks)
            refused |= await self._too_many(connection, tasks)
            fresh = [task for task in tasks if task.task_id not in refused]
            created = await self._insert(connection, fresh, places)
            new, unaffordable = await reserve(connection, _once(fresh, created))
            refused |= _with_twins(unaffordable, fresh)
            edges = [(task.task_id, need) for task in new for need in task.depends_on]
            if edges:
                await connection.execute(_EDGES, [list(part) for part in zip(*edges, strict=True)])
            await self._quotas.mark(connection, new)
            entry = await write_entry(connection, announce(new))
            known = await find_known(
                connection, [task for task in fresh if task.task_id not in created]
            )
            failpoint("accept_before_commit")
        states = {task.task_id: _state(task) for task in new}
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

    async def _insert(
        self, connection: Connection, tasks: list[NewTask], places: dict[str, _Place]
    ) -> set[str]:
        if not tasks:
            return set()
        rows = [_columns(task, places.get(task.task_id)) for task in tasks]
        cursor = await connection.execute(_INSERT, packed(_COLUMNS, rows))
        return {row[0] for row in await cursor.fetchall()}

    async def _places(
        self, connection: Connection, tasks: Sequence[NewTask]
    ) -> tuple[dict[str, _Place], dict[str, OctarmError]]:
        related = [task for task in tasks if task.parent_id or task.depends_on]
        if not related:
            return {}, {}
        ids = {task.parent_id for task in related if task.parent_id}
        ids |= {need for task in related for need in task.depends_on}
        cursor = await connection.execute(_RELATIVES, [sorted(ids)])
        relatives = {row[0]: row for row in await cursor.fetchall()}
        places: dict[str, _Place] = {}
        refused: dict[str, OctarmError] = {}
        for task in related:
            try:
                place = _place(task, relatives)
            except OctarmError as error:
                refused[task.task_id] = error
                continue
            if place is not None:
                places[task.task_id] = place
        return places, refused


def _place(task: NewTask, relatives: dict[str, tuple[Any, ...]]) -> _Place | None:
    for need in task.depends_on:
        if need not in relatives or relatives[need][1] != task.tenant:
            raise NotFound(f"depends_on names {need}, which does not exist")
    if task.parent_id is None:
        return None
    parent = relatives.get(task.parent_id)
    if parent is None or parent[1] != task.tenant:
        raise NotFound(f"the parent {task.parent_id} does not exist")
    _, _, root_id, depth, state, descendants, children = parent
    if TaskState(state).is_terminal:
        raise Conflict(f"the parent is {state} already", code="INVALID_STATE_TRANSITION")
    if depth + 1 > MAX_DEPTH:
        raise InvalidRequest(f"tasks nest at most {MAX_DEPTH} deep", code="INVALID_PLAN")
    if children >= MAX_CHILDREN or descendants >= MAX_DESCENDANTS:
        raise InvalidRequest(
            f"at most {MAX_CHILDREN} children and {MAX_DESCENDANTS} descendants of one root",
            code="INVALID_PLAN",
        )
    return _Place(root_id, depth + 1)


def _state(task: NewTask) -> TaskState:
    return TaskState.WAITING if task.waits else TaskState.QUEUED


def _columns(task: NewTask, place: _Place | None) -> tuple[Any, ...]:
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
        task.contract.decode(),
        task.traceparent,
        task.created_at,
    )


def _once(tasks: list[NewTask], created: set[str]) -> list[NewTask]:
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
    if task.task_id in refused:
        return refused[task.task_id]
    if task.task_id in states:
        return Known(task.task_id, states[task.task_id], created=True)
    return repetition(task, known)
