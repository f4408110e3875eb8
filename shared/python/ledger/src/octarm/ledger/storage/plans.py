"""Reading and writing what tasks have to do with each other, as they are accepted."""

from collections.abc import Sequence
from typing import Any, Final

from msgspec.structs import replace

from octarm.common.storage.connections import Connection
from octarm.ledger.domain.plans import MAX_DEPENDANTS, Plan, Relative
from octarm.ledger.domain.tasks import NewTask
from octarm.models.errors import NotFound, OctarmError
from octarm.models.states import TaskState

# Who counts the children of a tree counts alone. Not a lock on rows: those who finish tasks
# take these in the order of their ids, and roots come out of it.
_TREES: Final = """
select pg_advisory_xact_lock(h) from (
    select distinct hashtextextended(root_id, 0) as h from ledger.task where id = any(%b::text[])
    order by h) as trees
"""
# Shared locks: whoever ends or cancels one of these waits for our commit, and then sees it.
_RELATIVES: Final = f"""
select p.id, p.tenant, p.root_id, p.depth, p.state, p.cancelling_since is not null,
    case when p.id = any(%b::text[]) then (
        select count(*) from ledger.task c where c.parent_id = p.id) else 0 end,
    case when p.id = any(%b::text[]) then (
        select count(*) from ledger.task c where c.root_id = p.root_id and c.depth > 0)
        else 0 end,
    (select count(*) from (select from ledger.dependency d where d.needs_task_id = p.id
        limit {MAX_DEPENDANTS}) as few)
from ledger.task p where p.id = any(%b::text[]) order by p.id for share of p
"""
_EDGES: Final = """
insert into ledger.dependency (task_id, needs_task_id)
select * from unnest(%b::text[], %b::text[]) on conflict do nothing
"""
_BLOCK: Final = """
insert into ledger.blocked (task_id, on_failure)
select * from unnest(%b::text[], %b::text[]) on conflict do nothing
"""
_STARTS: Final = """
update ledger.task t set not_before = r.not_before
from unnest(%b::text[], %b::timestamptz[]) as r(id, not_before) where t.id = r.id
"""
_TAKE_BACK: Final = """
with gone as (delete from ledger.budget where task_id = any(%b::text[]))
delete from ledger.task where id = any(%b::text[])
"""


async def read_plan(connection: Connection, tasks: Sequence[NewTask]) -> Plan | None:
    """Place tasks among their relatives, whose rows stay as they are until the commit.

    None when no task has any.
    """
    related = [task for task in tasks if task.parent_id or task.depends_on]
    if not related:
        return None
    parents = sorted({task.parent_id for task in related if task.parent_id})
    ids = sorted({need for task in related for need in task.depends_on} | set(parents))
    if parents:
        await connection.execute(_TREES, [parents])
    cursor = await connection.execute(_RELATIVES, [parents, parents, ids])
    plan = Plan(
        Relative(task_id, tenant, root_id, depth, TaskState(state), *counts)
        for task_id, tenant, root_id, depth, state, *counts in await cursor.fetchall()
    )
    plan.place(tasks)
    return plan


def without_waiting(tasks: list[NewTask], plan: Plan) -> list[NewTask]:
    """Let tasks be ready at once that wait only for what has ended already."""
    return [
        replace(task, blocked=False) if task.blocked and plan.may_run(task) else task
        for task in tasks
    ]


async def take_back_dangling(
    connection: Connection, tasks: list[NewTask], plan: Plan, created: set[str]
) -> dict[str, OctarmError]:
    """Refuse what names a task of this commit that was not created under its id."""
    there = created | plan.stored
    refused: dict[str, OctarmError] = {}
    while True:
        dangling = [task for task in tasks if task.task_id in created and not _stands(task, there)]
        if not dangling:
            return refused
        ids = [task.task_id for task in dangling]
        await connection.execute(_TAKE_BACK, [ids, ids])
        created.difference_update(ids)
        there.difference_update(ids)
        for task_id in ids:
            refused[task_id] = NotFound("a task that it names was not accepted with it")


def _stands(task: NewTask, there: set[str]) -> bool:
    return there.issuperset(task.depends_on) and (not task.parent_id or task.parent_id in there)


async def write_edges(connection: Connection, new: list[NewTask]) -> None:
    """Write what new tasks depend on."""
    edges = [(task.task_id, need) for task in new for need in task.depends_on]
    if edges:
        await connection.execute(_EDGES, _columns(edges))


async def write_waiting(connection: Connection, waiting: list[NewTask]) -> None:
    """Write that these new tasks wait: for others, or for a time."""
    blocked = [(task.task_id, task.on_dependency_failure) for task in waiting if task.blocked]
    if blocked:
        await connection.execute(_BLOCK, _columns(blocked))
    starts = [(task.task_id, task.not_before) for task in waiting if task.not_before is not None]
    if starts:
        await connection.execute(_STARTS, _columns(starts))


def _columns(rows: list[Any]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
