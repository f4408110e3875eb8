"""What statements that queue waiting tasks have in common."""

from collections.abc import Sequence
from typing import Any, Final

from octarm.common.storage.connections import Connection
from octarm.ledger.domain.budgets import UNLIMITED
from octarm.ledger.domain.changes import Woken
from octarm.ledger.storage.budgets import what_is_left
from octarm.ledger.storage.statements import moved_row

# Of a waiting task `t`: its time has come and it waits for nobody.
DUE: Final = """
(t.not_before is null or t.not_before <= now()) and not exists (
    select from ledger.blocked b where b.task_id = t.id)
"""
# Of a task `t` that was `old`.
WOKEN: Final = """
t.id, t.tenant, t.attempt, old.state, t.state, t.event_seq, t.event_seq, t.traceparent, t.goal,
    now(), t.tier, t.priority, t.deadline, t.contract::text
"""


async def woken_rows(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> list[Woken]:
    """Read the columns of `WOKEN`, and what is left of each task's budget."""
    lefts = await what_is_left(connection, [row[0] for row in rows])
    return [
        Woken(
            moved_row(row[:10]),
            row[10],
            row[11],
            row[12],
            row[13].encode(),
            lefts.get(row[0], UNLIMITED),
        )
        for row in rows
    ]
