"""The short way of most submissions: their tasks and what is to be told, in one statement.

Nothing has to be looked up for tasks without relatives, budget, quota or start time. A statement
of its own is its own transaction, which saves three round trips; for one task alone that is most
of what its acceptance takes. Whatever is not like that goes the general way, in `intake`.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from octarm.common.bus.publisher import Outgoing
from octarm.common.failpoints import failpoint
from octarm.common.storage import Pool, connected
from octarm.common.storage.arrays import packed
from octarm.ledger.domain.budgets import UNLIMITED
from octarm.ledger.domain.changes import Entry
from octarm.ledger.domain.messages import pack
from octarm.ledger.domain.months import first_id_of
from octarm.ledger.domain.tasks import NewTask
from octarm.ledger.storage.task_rows import INSERT_TASKS, TASK_COLUMNS, task_row

CLOCKS_DIFFER: Final = timedelta(seconds=10)

_WRITE: Final = f"""
with told as (insert into ledger.outbox (messages) values (%b) returning seq),
ranged as (insert into ledger.fresh (first_id, last_id)
    select first_id, last_id from (values (%b::text, %b::text)) as r(first_id, last_id)
    where first_id is not null),
written as ({INSERT_TASKS})
select seq from told
"""


def is_plain(task: NewTask) -> bool:
    """Whether it is queued at once, and neither counted nor paid for."""
    return not (task.parent_id or task.depends_on or task.waits or task.grant != UNLIMITED)


def _about(moment: datetime) -> tuple[str, str]:
    """Give the ids between which those lie that were made about then: publishers choose theirs."""
    return first_id_of(moment - CLOCKS_DIFFER), first_id_of(moment + CLOCKS_DIFFER)


def before_commit() -> None:
    """Come by here, on either way, before an acceptance is durable."""
    failpoint("accept_before_commit")


async def write_plainly(pool: Pool, tasks: Sequence[NewTask], messages: list[Outgoing]) -> Entry:
    """Write fresh tasks and their one outbox row.

    Raises:
        UniqueViolation: some id or key is known, or comes twice; nothing was written.
    """
    begin, end = _about(tasks[0].created_at)
    fresh = [t.task_id for t in tasks if t.deadline is None and begin <= t.task_id < end]
    known = set(fresh)
    rows = [task_row(task, fresh=task.task_id in known) for task in tasks]
    between = (min(fresh), max(fresh)) if fresh else (None, None)
    parameters = [pack(messages), *between, *packed(TASK_COLUMNS, rows)]
    async with connected(pool) as connection:
        before_commit()
        cursor = await connection.execute(_WRITE, parameters)
        row = await cursor.fetchone()
    assert row is not None
    return Entry(row[0], messages)
