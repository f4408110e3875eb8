"""A migrated ledger, and builders for what goes into it."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from octarm.common.bus.publisher import Outgoing
from octarm.common.bus.task_history import events_in
from octarm.common.storage import Pool, open_pool
from octarm.common.storage.migrations import upgrade
from octarm.common.testing import RecordingPublisher
from octarm.ledger.domain.changes import Known, Moved
from octarm.ledger.domain.news import AttemptNews, Gathering, Placement
from octarm.ledger.domain.tasks import NewTask, new_task
from octarm.ledger.schema import MIGRATIONS, SCHEMA
from octarm.ledger.storage.attempts import PostgresAttempts
from octarm.ledger.storage.cancelling import PostgresCancelling
from octarm.ledger.storage.endings import PostgresEndings
from octarm.ledger.storage.intake import PostgresIntake
from octarm.ledger.storage.outbox import PostgresOutbox
from octarm.ledger.storage.reading import PostgresTasks
from octarm.ledger.storage.rejecting import PostgresRejecting
from octarm.ledger.storage.relatives import Relatives
from octarm.models import hot
from octarm.models.contracts import TaskSubmission
from octarm.models.ids import new_id
from octarm.orchestrator.usecases.announce import Announcement
from octarm.orchestrator.usecases.record import Revocation
from octarm.orchestrator.usecases.relay import Relay
from octarm.orchestrator.usecases.tell import TellOwn

HASH = "0" * 64
# A pool of tests waits: what a busy machine delays is no finding.
PATIENCE_S = 60.0


@dataclass
class Ledger:
    """Every adapter of the ledger on one database, and a relay that records."""

    pool: Pool
    intake: PostgresIntake
    attempts: PostgresAttempts
    endings: PostgresEndings
    cancelling: PostgresCancelling
    rejecting: PostgresRejecting
    relatives: Relatives
    outbox: PostgresOutbox
    tasks: PostgresTasks
    bus: RecordingPublisher
    relay: Relay

    async def execute(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Run SQL of the test's own."""
        async with self.pool.connection() as connection:
            cursor = await connection.execute(statement.encode(), parameters)
            return await cursor.fetchall() if cursor.description else []

    async def state_of(self, task_id: str) -> tuple[str, int]:
        """Give a task's state and attempt."""
        ((state, attempt),) = await self.execute(
            "select state, attempt from ledger.task where id = %s", task_id
        )
        return state, attempt


@asynccontextmanager
async def a_ledger(url: str, *, dispatch_lease_s: float = 15.0) -> AsyncGenerator[Ledger, None]:
    """Migrate the database at `url` and open the ledger on it."""
    upgrade(url, MIGRATIONS, SCHEMA)
    pool = await open_pool(url, name="test", max_size=8, wait_s=PATIENCE_S)
    bus, outbox = RecordingPublisher(), PostgresOutbox(pool)
    relatives = Relatives(TellOwn(1))
    attempts = PostgresAttempts(
        pool, relatives, dispatch_lease_s=dispatch_lease_s, run_lease_s=15.0
    )
    try:
        yield Ledger(
            pool=pool,
            intake=PostgresIntake(pool, relatives),
            attempts=attempts,
            endings=PostgresEndings(pool, relatives),
            cancelling=PostgresCancelling(pool, relatives),
            rejecting=PostgresRejecting(pool, relatives),
            relatives=relatives,
            outbox=outbox,
            tasks=PostgresTasks(pool),
            bus=bus,
            relay=Relay(bus, outbox),
        )
    finally:
        await pool.close()


def a_new_task(*, task_id: str = "", tenant: str = "default", **fields: Any) -> NewTask:
    """A task as it is about to be accepted."""
    submission = TaskSubmission.model_validate({"goal": "say hello"} | fields)
    return new_task(
        submission,
        task_id=task_id or new_id("tsk"),
        tenant=tenant,
        traceparent="",
        now=datetime.now(UTC),
    )


def a_result(task_id: str, attempt: int = 1, *, arm_id: str = "one", **fields: Any) -> bytes:
    """An ExecutionResult as an arm would send it; a failure when `error` is given."""
    error = fields.pop("error", None)
    return msgspec.json.encode(
        {
            "task_id": task_id,
            "attempt": attempt,
            "arm_id": arm_id,
            "instance_id": "i-1",
            "status": "success" if error is None else "failure",
            "execution_time_ms": 5,
            "output": {"said": "hello"},
            "error": error,
            "provenance": {
                "arm_id": arm_id,
                "timestamp": "2026-11-21T12:00:00Z",
                "command_hash": HASH,
            },
        }
        | fields
    )


def a_failure(task_id: str, attempt: int = 1, *, retryable: bool = True, **fields: Any) -> bytes:
    """A failed ExecutionResult."""
    error = {"title": "Broken", "status": 500, "code": "INTERNAL", "category": "internal"}
    return a_result(
        task_id, attempt, error=error | {"detail": "it broke"}, retryable=retryable, **fields
    )


def news(*bodies: bytes) -> list[AttemptNews]:
    """What these results say."""
    gathering = Gathering()
    for body in bodies:
        gathering.ended(msgspec.json.decode(body, type=hot.Result), body)
    return gathering.all()


def placed(task_id: str, attempt: int = 1, *, arm_id: str = "one", seq: int = 7) -> AttemptNews:
    """News that an attempt was placed."""
    placement = Placement(
        task_id, attempt, arm_id, seq, datetime.now(UTC), "priority", "the only one"
    )
    return AttemptNews(task_id, attempt, arm_id, placement=placement)


def a_command(*task_ids: str, arm_id: str = "one") -> bytes:
    """A run command for the first attempts of these tasks."""
    tasks = [hot.RunTask(task_id, 1, msgspec.Raw(b"{}"), "", "so") for task_id in task_ids]
    return msgspec.json.encode(hot.RunTasks(0, arm_id, datetime.now(UTC), "priority", tasks))


def started(task_id: str, attempt: int = 1, *, arm_id: str = "one") -> AttemptNews:
    """News that an attempt was started."""
    return AttemptNews(task_id, attempt, arm_id, "i-1", started_at=datetime.now(UTC))


class Revoked(list[Revocation]):
    """Revokes by keeping what it is told."""

    async def __call__(self, revocations: Sequence[Revocation]) -> None:
        """Keep them, in order."""
        self.extend(revocations)


async def accept(ledger: Ledger, **fields: Any) -> str:
    """Have a task accepted; gives its id."""
    (answer,), _ = await ledger.intake.accept([a_new_task(**fields)], lambda _: [])
    assert isinstance(answer, Known), answer
    return answer.task_id


async def accept_plainly(ledger: Ledger, **fields: Any) -> str:
    """Have a task accepted and told of, as the orchestrator does; gives its id."""
    told = [Outgoing("octarm.v1.test", b"{}", "one")]
    (answer,), _ = await ledger.intake.accept([a_new_task(**fields)], lambda _: told)
    assert isinstance(answer, Known), answer
    return answer.task_id


async def record(ledger: Ledger, *items: AttemptNews) -> list[Moved]:
    """Have news recorded, with retries at once."""
    announce = Announcement(list(items))
    moved, _, _ = await ledger.attempts.record(list(items), [0.0] * len(items), announce)
    return moved


async def bodies(ledger: Ledger, task_id: str) -> list[dict[str, Any]]:
    """What the outbox has to tell about a task, in order."""
    found = []
    for entry in await ledger.outbox.older_than(-1):
        for message in entry.messages:
            if ".evt.tasks." in message.subject:
                told_events = events_in(message.payload, task_id=task_id)
                found += [msgspec.json.decode(event.body) for event in told_events]
    return sorted(found, key=lambda body: int(body["seq"]))


async def events(ledger: Ledger, task_id: str) -> list[tuple[int, str]]:
    """What the outbox has to tell about a task, by number."""
    return [
        (body["seq"], body["type"].removeprefix("task.")) for body in await bodies(ledger, task_id)
    ]


async def told(ledger: Ledger, task_id: str, field: str) -> Any:
    """What the newest event of a task says."""
    return (await bodies(ledger, task_id))[-1].get(field)
