"""Attempts of the past, as the simulator reads them."""

import json
from datetime import datetime
from itertools import groupby
from typing import Any, Final

from psycopg.rows import dict_row

from octarm.common.storage import Pool, connected
from octarm.models.ids import typeid
from octarm.models.policies import DecisionRecord, DecisionsFound, FindDecisions

# Half of what NATS takes as one message.
MAX_PAGE_BYTES: Final = 512 * 1024
ROW_BYTES: Final = 500
SHORTEST_S: Final = 1e-4

# Ids begin with the time of their making, so that they are what a time is looked up by.
_FIND: Final = """
with page as (
    select id, tenant, tier, priority, labels, created_at, deadline, contract
    from ledger.task
    where {which} and id >= %(low)s and id < %(high)s
        and (%(after)s::text is null or id > %(after)s)
        and (%(tenant)s::text is null or tenant = %(tenant)s)
    order by id limit %(limit)s
)
select t.id, t.tenant, t.tier, t.priority, t.labels::text as labels,
    t.contract ->> 'required_capabilities' as needs, t.contract ->> 'assigned_arm' as assigned_arm,
    coalesce((t.contract ->> 'slots')::int, 1) as slots,
    extract(epoch from t.created_at)::float8 as created_at,
    extract(epoch from t.deadline)::float8 as deadline,
    a.attempt, a.arm_id, a.outcome, a.tokens_used, a.cost_microdollars,
    extract(epoch from a.placed_at)::float8 as placed_at,
    extract(epoch from a.started_at)::float8 as started_at,
    extract(epoch from a.ended_at)::float8 as ended_at,
    a.decision ->> 'policy' as policy
from page t left join ledger.attempt a on a.task_id = t.id
order by t.id, a.attempt
"""
_ALL: Final = _FIND.format(which="true")
# Whatever an arm has holds a lease, of which there are few, with an index of their own.
_UNDER_WAY: Final = _FIND.format(which="lease_until is not null")
_STATUS: Final = {"success": "success", "partial": "partial"}


class PostgresDecisions:
    """Reads attempts by the time of their tasks."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def find(self, wanted: FindDecisions) -> DecisionsFound:
        """Give a page, oldest tasks first; one of large tasks is shorter than asked for.

        Of what is under way the ended attempts are left out.
        """
        parameters = {
            "low": _first_id(wanted.since),
            "high": _first_id(wanted.until),
            "after": wanted.after,
            "tenant": wanted.tenant,
            "limit": wanted.limit,
        }
        async with connected(self._pool) as connection:
            cursor = connection.cursor(row_factory=dict_row)
            await cursor.execute(_UNDER_WAY if wanted.under_way else _ALL, parameters)
            rows = await cursor.fetchall()
        if wanted.under_way:
            rows = [row for row in rows if row["ended_at"] is None]
        return _page(rows, wanted.limit)


def _first_id(at: datetime) -> str:
    return typeid("tsk", max(int(at.timestamp() * 1000), 0) << 80)


def _page(rows: list[dict[str, Any]], limit: int) -> DecisionsFound:
    decisions: list[DecisionRecord] = []
    size = tasks = 0
    last: str | None = None
    for task_id, attempts in groupby(rows, key=lambda row: str(row["id"])):
        placed = [row for row in attempts if row["attempt"] is not None]
        size += sum(
            ROW_BYTES + len(row["labels"] or "") + len(row["needs"] or "") for row in placed
        )
        if tasks and size > MAX_PAGE_BYTES:
            return DecisionsFound(decisions=decisions, after=last)
        decisions += _decisions(placed)
        tasks, last = tasks + 1, task_id
    return DecisionsFound(decisions=decisions, after=last if tasks == limit else None)


def _decisions(rows: list[dict[str, Any]]) -> list[DecisionRecord]:
    """Give a task's attempts; each was queued when the one before it had ended."""
    found = []
    queued_at = rows[0]["created_at"] if rows else 0.0
    for row in rows:
        began, ended = row["started_at"] or row["placed_at"], row["ended_at"]
        if began is None:
            continue
        found.append(
            DecisionRecord(
                task_id=row["id"],
                attempt=row["attempt"],
                tenant=row["tenant"],
                tier=row["tier"],
                priority=row["priority"],
                needs=json.loads(row["needs"] or "[]"),
                labels=json.loads(row["labels"] or "{}"),
                assigned_arm=row["assigned_arm"],
                slots=row["slots"],
                tokens=row["tokens_used"],
                queued_at=queued_at,
                placed_at=row["placed_at"],
                deadline=row["deadline"],
                took_s=max(ended - (row["placed_at"] or began), SHORTEST_S) if ended else None,
                status=_STATUS.get(row["outcome"], "failure") if ended else "success",
                arm_id=row["arm_id"],
                policy=row["policy"] or "",
                cost=row["cost_microdollars"],
            )
        )
        queued_at = ended or queued_at
    return found
