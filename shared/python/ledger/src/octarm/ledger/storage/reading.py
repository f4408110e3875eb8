"""Reading the ledger for its clients."""

import base64
import binascii
from typing import Any, Final

import msgspec
from psycopg.rows import dict_row
from pydantic import ValidationError

from octarm.common.storage import Pool, connected
from octarm.common.telemetry.logs import get_logger
from octarm.ledger.domain.tenants import Tenants
from octarm.ledger.storage.listed import QUEUED
from octarm.models.errors import FieldError, Problem, Unparsable
from octarm.models.ids import is_task_id
from octarm.models.queries import (
    AttemptView,
    CalledOff,
    Cancelled,
    FindTasks,
    Outcome,
    TasksFound,
    TaskView,
)
from octarm.models.results import ExecutionResult
from octarm.models.states import TaskState, job_status

# Half of what NATS takes as one message: what was stored may be written longer in an answer.
MAX_PAGE_BYTES: Final = 512 * 1024
ROW_BYTES: Final = 600

log = get_logger()

_COLUMNS: Final = """
select t.id, t.tenant, t.state, t.attempt, t.arm_id, t.instance_id, t.created_at, t.updated_at,
    t.terminal_at, case when t.state = 'waiting' then t.not_before end as not_before,
    t.held and t.state = 'waiting' as held,
    t.error::text as error, t.traceparent, t.cancelling_since, t.proof,
    t.contract::text as contract,
    coalesce(s.tokens, 0)::bigint as tokens, coalesce(s.cost, 0)::bigint as cost,
    coalesce(s.calls, 0)::bigint as calls, to_json(b) as budget
from ledger.task t
left join ledger.budget b on b.task_id = t.id
left join lateral (
    select sum(tokens_used) as tokens, sum(cost_microdollars) as cost, sum(llm_calls) as calls
    from ledger.attempt a where a.task_id = t.id) s on true
"""
_GET: Final = _COLUMNS + "where t.tenant = %(tenant)s and t.id = %(id)s"
_FIND: Final = _COLUMNS + "where {wishes} order by t.id desc limit %(limit)s"
_WISHES: Final = {
    "tenant": "t.tenant = %(tenant)s",
    "before": "t.id < %(before)s",
    "arm_id": "t.arm_id = %(arm_id)s",
    "key": "t.labels ? %(key)s",
    "value": "t.labels ->> %(key)s = %(value)s",
}
# Said as the partial indexes say it: what waits, is under way, or has failed is found without
# reading all that the tenant has ever completed.
_IN: Final = {
    TaskState.QUEUED: "t.id = any(array(select t.id from ledger.task t"
    f" where t.tenant = %(tenant)s and {QUEUED}))",
    TaskState.COMPLETED: "t.state = 'completed'",
} | {
    state: f"t.state = '{state.value}' and t.lease_until is not null"
    for state in (TaskState.DISPATCHED, TaskState.RUNNING, TaskState.VALIDATING)
}
_ATTEMPTS: Final = """
select attempt, arm_id, instance_id, placed_at, started_at, ended_at, outcome, reason, proof,
    decision::text as decision, tokens_used, cost_microdollars, llm_calls
from ledger.attempt where task_id = %s order by attempt
"""
_OUTCOMES: Final = """
select t.id, t.state, t.attempt, t.error::text, r.body::text, t.cancelling_since, t.proof
from ledger.task t left join ledger.result r on r.task_id = t.id
where t.tenant = %s and t.id = any(%s)
"""
_SUBTREE: Final = """
with recursive tree(id, level) as (
    select c.id, 1 from ledger.task c where c.parent_id = %s
    union
    select c.id, level + 1 from tree join ledger.task c on c.parent_id = tree.id
)
select t.id as task_id, t.state, t.arm_id, t.cancelling_since, t.proof
from tree join ledger.task t on t.id = tree.id order by level, t.id limit 1000
"""


class PostgresTasks:
    """Answers questions about tasks; a tenant sees only its own."""

    def __init__(self, pool: Pool, tenants: Tenants | None = None) -> None:
        self._pool = pool
        self._tenants = tenants or Tenants()

    async def get(self, tenant: str, task_id: str) -> TaskView | None:
        """Show one task with its attempts."""
        async with connected(self._pool) as connection:
            cursor = connection.cursor(row_factory=dict_row)
            await cursor.execute(_GET, {"tenant": tenant, "id": task_id})
            row = await cursor.fetchone()
            if row is None:
                return None
            await cursor.execute(_ATTEMPTS, [task_id])
            attempts = [_attempt(line) for line in await cursor.fetchall()]
        return _view(row, attempts, self._tenants)

    async def find(self, wanted: FindTasks) -> TasksFound:
        """Page through tasks, newest first; a page of large tasks is shorter than asked for.

        Raises:
            Unparsable: the cursor is not one of ours.
        """
        statement, parameters = finding(wanted)
        async with connected(self._pool) as connection:
            cursor = connection.cursor(row_factory=dict_row)
            await cursor.execute(statement, parameters)
            rows = await cursor.fetchall()
        page = rows[: _fitting(rows[: wanted.limit])]
        more = _make_cursor(page[-1]["id"]) if len(rows) > len(page) else ""
        return TasksFound(tasks=[_view(row, [], self._tenants) for row in page], cursor=more)

    async def outcomes(self, tenant: str, task_ids: list[str]) -> list[Outcome]:
        """Say where tasks stand, with their results.

        Results that do not fit into one message are left out: ask for such a task alone.
        """
        async with connected(self._pool) as connection:
            cursor = await connection.execute(_OUTCOMES, [tenant, task_ids])
            rows = await cursor.fetchall()
        room, outcomes = MAX_PAGE_BYTES, []
        for row in rows:
            size = len(row[3] or "") + len(row[4] or "")
            if size <= room or len(rows) == 1:
                room -= size
                outcomes.append(_outcome(row))
            else:
                outcomes.append(_brief(_outcome((*row[:4], None, *row[5:]))))
        return outcomes

    async def called_off(self, tenant: str, task_id: str) -> Cancelled | None:
        """Say where a task stands, without its result, and every task below it."""
        async with connected(self._pool) as connection:
            cursor = await connection.execute(_OUTCOMES, [tenant, [task_id]])
            row = await cursor.fetchone()
            if row is None:
                return None
            below = connection.cursor(row_factory=dict_row)
            await below.execute(_SUBTREE, [task_id])
            subtree = [CalledOff.model_validate(line) for line in await below.fetchall()]
        outcome = _outcome((*row[:4], None, *row[5:]))
        return Cancelled(**dict(outcome), subtree=subtree)


def finding(wanted: FindTasks) -> tuple[str, dict[str, Any]]:
    """Write the statement that finds one task more than a page holds, and its parameters.

    Raises:
        Unparsable: the cursor is not one of ours.
    """
    key, _, value = (wanted.label or "").partition("=")
    parameters = {
        "tenant": wanted.tenant,
        "before": _open_cursor(wanted.cursor),
        "arm_id": wanted.arm_id,
        "key": key or None,
        "value": value if "=" in (wanted.label or "") else None,
    }
    wishes = [wish for name, wish in _WISHES.items() if parameters[name] is not None]
    if wanted.state is not None:
        wishes.append(_IN.get(wanted.state, f"t.listed_state = '{wanted.state.value}'"))
    return _FIND.format(wishes=" and ".join(wishes)), parameters | {"limit": wanted.limit + 1}


def _outcome(row: tuple[Any, ...]) -> Outcome:
    task_id, state, attempt, error, body, since, proof = row
    return Outcome(
        task_id=task_id,
        state=TaskState(state),
        attempt=attempt,
        result=_result(task_id, body) if body else None,
        error=Problem.model_validate_json(error) if error else None,
        cancelling_since=since,
        proof=proof,
    )


def _result(task_id: str, body: str) -> ExecutionResult | None:
    try:
        return ExecutionResult.model_validate_json(body)
    except ValidationError as error:
        # It must not keep the others' answers from who asked for them together.
        log.error("result_unreadable", task_id=task_id, error=str(error.errors()[0]["msg"]))
        return None


def _brief(outcome: Outcome) -> Outcome:
    if outcome.error is None:
        return outcome
    short = {"detail": outcome.error.detail[:200], "recovery_hint": "", "errors": None}
    return outcome.model_copy(update={"error": outcome.error.model_copy(update=short)})


def _fitting(rows: list[dict[str, Any]]) -> int:
    """Count the rows, at least one, that fit into one message."""
    total = 0
    for number, row in enumerate(rows):
        total += len(row["contract"].encode()) + len(row["error"] or "") + ROW_BYTES
        if total > MAX_PAGE_BYTES and number:
            return number
    return len(rows)


def _held_by(row: dict[str, Any], tenants: Tenants) -> str | None:
    if not row["held"]:
        return None
    return f"quota: {tenants.of(row['tenant']).max_in_flight} in flight"


def _view(row: dict[str, Any], attempts: list[AttemptView], tenants: Tenants) -> TaskView:
    state = TaskState(row["state"])
    return TaskView.model_validate(
        {
            "task_id": row["id"],
            "status": job_status(state).value,
            "error": msgspec.json.decode(row["error"]) if row["error"] else None,
            "tokens_used": row["tokens"],
            "cost_dollars": row["cost"] / 1_000_000,
            "llm_calls": row["calls"],
            "attempts": attempts,
            "waits_for": _held_by(row, tenants),
            "task": msgspec.json.decode(row["contract"]),
            "budget": budget_view(row["budget"]) if row["budget"] else None,
        }
        | {
            name: row[name]
            for name in (
                "tenant",
                "state",
                "attempt",
                "arm_id",
                "instance_id",
                "created_at",
                "updated_at",
                "terminal_at",
                "not_before",
                "cancelling_since",
                "proof",
                "traceparent",
            )
        }
    )


def budget_view(row: dict[str, Any]) -> dict[str, Any]:
    """Show a budget's row."""
    shown = {"granted": "granted", "reserved": "reserved", "spent": "spent", "overspent": "over"}
    view: dict[str, Any] = {name: _amounts(row, kind) for name, kind in shown.items()}
    return view | {"settled": row["settled_at"] is not None}


def _amounts(row: dict[str, Any], kind: str) -> dict[str, Any]:
    micro = row[f"{kind}_microdollars"]
    return {
        "tokens": row[f"{kind}_tokens"],
        "cost_dollars": None if micro is None else micro / 1_000_000,
        "llm_calls": row[f"{kind}_calls"],
        "time_ms": row[f"{kind}_ms"],
    }


def _attempt(row: dict[str, Any]) -> AttemptView:
    decision = row.pop("decision")
    cost = row.pop("cost_microdollars") / 1_000_000
    return AttemptView(
        **row, cost_dollars=cost, decision=msgspec.json.decode(decision) if decision else None
    )


def _make_cursor(task_id: str) -> str:
    return base64.urlsafe_b64encode(task_id.encode()).decode().rstrip("=")


def _open_cursor(cursor: str) -> str | None:
    if not cursor:
        return None
    try:
        task_id = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        task_id = ""
    if not is_task_id(task_id):
        raise Unparsable(
            "this cursor is not one of ours",
            "Page from the beginning.",
            "INVALID_PARAMETER",
            errors=[FieldError(field="cursor", message="not one that this list gave")],
        )
    return task_id
