"""Fill a ledger with tasks that ended long ago, as they would stand there."""

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import msgspec
import psycopg

from octarm.models.ids import typeid, uuid7

DAYS = 30
CHUNK = 20_000
STATES = ("completed",) * 95 + ("failed", "failed", "cancelled", "timed_out", "rejected")
_TASK = (
    "id, tenant, idem_key, req_hash, state, attempt, event_seq, arm_id, instance_id, started_at,"
    " timeout_s, max_retries, priority, tier, root_id, labels, goal, contract, created_at,"
    " updated_at, terminal_at"
)
_ATTEMPT = (
    "task_id, attempt, arm_id, instance_id, placed_at, started_at, ended_at, outcome, decision,"
    " tokens_used"
)
_RESULT = "task_id, attempt, body, sha256, received_at"


def fill(url: str, until: int) -> None:
    """Add ended tasks until the ledger holds `until`; does nothing when it does already."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute("select count(*) from ledger.task").fetchone()
        missing = until - (row[0] if row else 0)
        random = Random(until)
        for first in range(0, missing, CHUNK):
            count = min(CHUNK, missing - first)
            tasks = [_a_task(number, random) for number in range(count)]
            _copy(connection, "task", _TASK, (task[0] for task in tasks))
            _copy(connection, "attempt", _ATTEMPT, (task[1] for task in tasks))
            _copy(connection, "result", _RESULT, (task[2] for task in tasks))
        for table in ("task", "attempt", "result"):
            connection.execute(f"vacuum analyze ledger.{table}".encode())


def _copy(
    connection: psycopg.Connection[Any], table: str, columns: str, rows: Iterable[tuple[Any, ...]]
) -> None:
    statement = f"copy ledger.{table} ({columns}) from stdin".encode()
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)


def _a_task(number: int, random: Random) -> tuple[tuple[Any, ...], ...]:
    at = datetime.now(UTC) - timedelta(seconds=random.uniform(3600, DAYS * 86_400))
    task_id = typeid("tsk", uuid7(int(at.timestamp() * 1000), random.getrandbits(80)))
    end, arm = at + timedelta(milliseconds=80), f"arm-{number % 20}"
    context = {"n": number, "note": "x" * random.randrange(200)}
    body = {"goal": "do nothing", "required_capabilities": ["noop"], "context": context}
    contract = msgspec.json.encode(
        body | {"task_id": task_id, "tenant": "default", "created_at": at, "schema_version": "1"}
    ).decode()
    state = random.choice(STATES)
    result = msgspec.json.encode(
        {
            "task_id": task_id,
            "attempt": 1,
            "arm_id": arm,
            "instance_id": "i-1",
            "status": "success",
            "output": context,
            "execution_time_ms": 1,
            "provenance": {"arm_id": arm, "timestamp": at, "command_hash": "0" * 64},
        }
    )
    decision = '{"policy":"priority","reason":"the only one that can","scores":[]}'
    return (
        (
            *(task_id, "default", f"old-{task_id}", hashlib.sha256(result).digest(), state, 1, 5),
            *(arm, "i-1", at, 300, 3, 5, "interactive", task_id, "{}", "do nothing", contract),
            *(at, end, end),
        ),
        (task_id, 1, arm, "i-1", at, at, end, "success", decision, 0),
        (task_id, 1, result.decode(), hashlib.sha256(result).digest(), end),
    )
