"""A small workload on the real ledger and a real bus, whose parts a test may make faulty.

No process but this one: the ledger's use cases are called directly, the scheduler is a loop over
READY, the arms are functions. Everything a client sees goes into a history, everything a tool
does into a file of effects, so that the checker has all that it can read.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from nats.aio.client import Client as NATS
from nats.js import JetStreamContext

from octarm.arm_registry.domain import verdict
from octarm.arm_registry.domain.beats import Beat
from octarm.arm_registry.domain.verdict import Instance
from octarm.common.bus.connection import connected_to
from octarm.common.bus.dead_letters import DeadLetters
from octarm.common.bus.delivery import Dead, Delivery
from octarm.common.bus.publisher import Outgoing, Publisher, Publishes
from octarm.common.bus.topology import (
    HISTORY,
    MEMORY_EPISODES,
    ORCHESTRATOR_INTAKE,
    STREAMS,
    provision,
    scheduler_durable,
    stream_config,
)
from octarm.common.clock import SystemClock
from octarm.common.storage import Batcher, Pool, open_pool
from octarm.common.storage.migrations import upgrade
from octarm.ledger.domain.changes import AcceptAnswer
from octarm.ledger.domain.news import AttemptNews
from octarm.ledger.schema import MIGRATIONS, SCHEMA
from octarm.ledger.storage.attempts import PostgresAttempts
from octarm.ledger.storage.cancelling import PostgresCancelling
from octarm.ledger.storage.endings import PostgresEndings
from octarm.ledger.storage.intake import PostgresIntake
from octarm.ledger.storage.outbox import PostgresOutbox
from octarm.ledger.storage.reading import PostgresTasks
from octarm.ledger.storage.relatives import Relatives
from octarm.models import hot
from octarm.models.errors import BudgetExceeded, OctarmError
from octarm.models.ids import new_id
from octarm.models.queries import FindTasks
from octarm.models.subjects import ARM_EVENT, ENDED, INTAKE, READY, SUBMIT_TASK
from octarm.orchestrator.intake import IntakeConsumer
from octarm.orchestrator.usecases.accept import AcceptTasks, Submitted
from octarm.orchestrator.usecases.cancelling import CancelTasks, StopAttempts
from octarm.orchestrator.usecases.endings import Reconcile
from octarm.orchestrator.usecases.record import RecordNews, Revocation
from octarm.orchestrator.usecases.relay import Relay
from octarm.orchestrator.usecases.tell import TellOwn
from octarm.verify.check import Sources, verify
from octarm.verify.history import HistoryWriter
from octarm.verify.report import Report
from tests.support.ledger import a_failure, a_result, news, placed, started

TABLES = (
    "select relname from pg_class where relnamespace = 'ledger'::regnamespace and relkind = 'r'"
)
HERE, THERE = "here", "there"


async def _revoke(_: Sequence[Revocation]) -> None:
    """Nothing runs that would have to be told."""


async def _withdraw(_: Sequence[Revocation]) -> set[tuple[str, int]]:
    """Nothing is taken back."""
    return set()


@dataclass
class World:
    """Every part by name; a seeded bug replaces one."""

    postgres_url: str
    nats_url: str
    pool: Pool
    nc: NATS
    folder: Path
    publisher: Publishes = field(init=False)
    history: HistoryWriter = field(init=False)
    ran_twice: int = 0
    """How many attempts an arm runs twice."""
    unacknowledged: int = 0
    """How many READY messages the scheduler forgets to acknowledge."""

    def __post_init__(self) -> None:
        self.publisher = self.bus = Publisher(self.nc)
        self.relatives = Relatives(TellOwn(1))
        self.intake = PostgresIntake(self.pool, self.relatives)
        self.attempts = PostgresAttempts(
            self.pool, self.relatives, dispatch_lease_s=15.0, run_lease_s=15.0
        )
        self.endings = PostgresEndings(self.pool, self.relatives)
        self.cancelling = PostgresCancelling(self.pool, self.relatives)
        self.outbox = PostgresOutbox(self.pool)
        self.tasks = PostgresTasks(self.pool)
        self.dead_letters = DeadLetters(self.bus, ORCHESTRATOR_INTAKE)
        self.history = HistoryWriter(self.folder / "history.jsonl", process="client")
        self.effects = self.folder / "effects.jsonl"
        self.effects.touch()
        self.relay = Relay(self.publisher, self.outbox)

    async def execute(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Run SQL of the test's own."""
        async with self.pool.connection() as connection:
            cursor = await connection.execute(statement.encode(), parameters)
            return await cursor.fetchall() if cursor.description else []

    async def submit(self, tenant: str = HERE, *, key: str | None = None, **fields: Any) -> str:
        """Submit a task as a client does."""
        body: dict[str, Any] = {"goal": "work", "idempotency_key": key or new_id("tsk")} | fields
        item = hot.SubmitTask(msgspec.Raw(json.dumps(body).encode()))
        with self.history.doing("submit", tenant=tenant, key=body["idempotency_key"]) as asked:
            (answer,) = await self._accept()([Submitted(tenant, item)])
            if isinstance(answer, OctarmError):
                raise answer
            asked.ok(task_id=answer.task_id, created=answer.created)
        return answer.task_id

    def _accept(self) -> AcceptTasks:
        return AcceptTasks(self.intake, self.relay, SystemClock(), 1)

    async def delegate(self, parent: str, max_tokens: int) -> str | None:
        """Submit a child that takes its budget from its parent's; None when it is refused."""
        asked = self.history.invoke("reserve", budget=parent, amount=max_tokens)
        try:
            child = await self.submit(parent_task_id=parent, budget={"max_tokens": max_tokens})
        except BudgetExceeded as error:
            asked.fail(code=error.code)
            return None
        asked.ok(task_id=child)
        return child

    async def publish(self, submission: dict[str, Any], tenant: str = HERE) -> str:
        """Publish a submission to INTAKE, as one does who does not wait."""
        task_id = new_id("tsk")
        body = json.dumps({"task_id": task_id, "submission": submission}).encode()
        with self.history.doing("publish", tenant=tenant, task_id=task_id) as asked:
            message = Outgoing(SUBMIT_TASK.at(tenant=tenant), body, f"test:{task_id}")
            asked.ok(seq=(await self.bus.publish(message)).seq)
        return task_id

    async def take_in(self) -> None:
        """Accept what is on INTAKE, and bury what cannot be accepted."""
        accepting: Batcher[Submitted, AcceptAnswer] = Batcher(self._accept())
        batch = await self._fetch(INTAKE, ORCHESTRATOR_INTAKE)
        outcomes = await IntakeConsumer(accepting)(batch)
        for delivery, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Dead):
                await self.dead_letters.bury(delivery, outcome.reason)
            else:
                delivery.ack()
        await self.nc.flush()

    async def _fetch(self, stream: str, durable: str) -> list[Delivery]:
        subscription = await self.nc.jetstream().pull_subscribe_bind(durable, stream)
        found: list[Delivery] = []
        while (await subscription.consumer_info()).num_pending:
            messages = await subscription.fetch(100, timeout=5)
            found += [Delivery(message, self._send) for message in messages]
        await subscription.unsubscribe()
        return found

    def _send(self, subject: str, body: bytes) -> None:
        asyncio.get_running_loop().create_task(self.nc.publish(subject, body))

    async def schedule(self) -> list[tuple[str, int]]:
        """Place everything that is on READY; gives the attempts in hand."""
        await self.tell()
        ready: list[tuple[str, int]] = []
        for delivery in await self._fetch(READY, scheduler_durable(0)):
            for task in msgspec.json.decode(delivery.data, type=hot.PlaceTasks).tasks:
                ready.append((task.task_id, task.attempt))
            if self.unacknowledged:
                self.unacknowledged -= 1
            else:
                delivery.ack()
        for task_id, attempt in ready:
            await self.record(placed(task_id, attempt))
            await self.record(started(task_id, attempt))
            self.history.note("acquire", lease=task_id, token=attempt)
            await self.look(task_id)
        return ready

    async def run(self, task_id: str, attempt: int = 1, *, fails: bool = False) -> None:
        """Be the arm that runs an attempt to its end."""
        twice, self.ran_twice = self.ran_twice > 0, max(0, self.ran_twice - 1)
        for _ in range(1 + twice):
            effect = {"task_id": task_id, "attempt": attempt, "call_no": 1}
            with self.effects.open("a") as file:
                file.write(json.dumps(effect) + "\n")
        await self.report(task_id, attempt, fails=fails)

    async def report(self, task_id: str, attempt: int, *, fails: bool = False) -> None:
        """Report an attempt's result; the history says whether the ledger took it."""
        make = a_failure if fails else a_result
        body = make(task_id, attempt, tokens_used=5)
        write = self.history.invoke("write", lease=task_id, token=attempt)
        before = await self.state_of(task_id)
        await self.record(*news(body))
        (write.ok if await self.state_of(task_id) != before else write.fail)()

    async def record(self, *items: AttemptNews) -> None:
        """Record news as the orchestrator does."""
        await RecordNews(self.attempts, self.relay, _revoke)(list(items))

    async def state_of(self, task_id: str) -> list[tuple[Any, ...]]:
        """Give state and attempt as they stand in the ledger."""
        return await self.execute("select state, attempt from ledger.task where id = %s", task_id)

    async def look(self, task_id: str, tenant: str = HERE) -> None:
        """Ask where a task stands."""
        asked = self.history.invoke("get", tenant=tenant, task_id=task_id)
        found = await self.tasks.outcomes(tenant, [task_id])
        if found:
            asked.ok(state=found[0].state.value, attempt=found[0].attempt)
        else:
            asked.fail(code="TASK_NOT_FOUND")

    async def list_tasks(self, tenant: str) -> None:
        """List a tenant's tasks."""
        with self.history.doing("list", tenant=tenant) as asked:
            found = await self.tasks.find(FindTasks(tenant=tenant, limit=100))
            asked.ok(task_ids=[task.task_id for task in found.tasks])

    @property
    def _stop(self) -> StopAttempts:
        """As when an arm says nothing for too long: what it had is ended without its word."""
        return StopAttempts(
            self.cancelling,
            self.relay,
            _withdraw,
            lambda: True,
            clock=SystemClock(),
            force_after_s=0.0,
        )

    async def cancel(self, task_id: str, tenant: str = HERE) -> None:
        """Cancel a task."""
        with self.history.doing("cancel", tenant=tenant, task_id=task_id) as asked:
            await CancelTasks(self.cancelling, self.relay, self._stop)(task_id, tenant, "no longer")
            ((state, attempt),) = await self.state_of(task_id)
            asked.ok(state=state, attempt=attempt)
        self.history.note("release", lease=task_id, token=attempt)

    async def watch(self) -> None:
        """Judge an arm that has just missed one beat, as the registry does."""
        self.history.note("steady", arm="one")
        instance = Instance(Beat("one", "i-1", interval_s=5.0), heard_at=0.0)
        found = verdict.verdict([instance], now=6.0, drain_requested=False, norm=verdict.Norm())
        if found.status != "online":
            subject = ARM_EVENT.at(verb=found.status, arm_id="one")
            await self.bus.publish(Outgoing(subject, b"{}", f"test:{new_id('evt')}"))

    async def reconcile(self) -> None:
        """Let all that waits for a time have waited long enough, and mend once."""
        await self.execute("update ledger.task set not_before = now() where state = 'waiting'")
        await Reconcile(self.endings, self.relay, _revoke, 1).once()

    async def tell(self) -> None:
        """Publish what the ledger has to tell, and take in what memory would."""
        stop = asyncio.Event()
        stop.set()
        await self.relay.run(stop)
        for delivery in await self._fetch(ENDED, MEMORY_EPISODES):
            delivery.ack()
        await self.nc.flush()

    async def check(self) -> Report:
        """Say whether all is well."""
        await self.tell()
        self.history.flush()
        histories, effects = [self.folder / "history.jsonl"], [self.effects]
        sources = Sources(self.postgres_url, self.nats_url, histories, effects)
        return await verify(sources, wait_s=0.0)


def progress(task_id: str) -> AttemptNews:
    """News of how far an attempt is."""
    update = hot.AttemptUpdate(task_id, 1, "progress", datetime.now(UTC), 0.5, "half")
    return AttemptNews(task_id, 1, "one", "i-1", progress=update)


async def work(world: World) -> None:
    """Go every way that a task can go, once or twice."""
    plain = [await world.submit() for _ in range(3)]
    foreign = await world.submit(THERE, key="k")
    await world.submit(THERE, key="k")
    waits = await world.submit(depends_on=[plain[0]])
    retried, lost, cancelled = [await world.submit() for _ in range(3)]
    root = await world.submit(budget={"max_tokens": 100})
    world.history.note("grant", budget=root, amount=100)
    for tokens in (60, 60, 30):
        await world.delegate(root, tokens)
    await world.publish({"goal": "published"})
    await world.publish({"goal": ""})
    await world.take_in()
    in_hand = await world.schedule()
    await world.watch()

    await world.cancel(cancelled)
    await world.run(retried, fails=True)
    await world.execute(
        "update ledger.task set lease_until = now() - interval '1 s' where id = %s", lost
    )
    await world.reconcile()
    for task_id, attempt in await world.schedule():
        in_hand.append((task_id, attempt))
    for task_id, attempt in in_hand:
        if task_id != retried or attempt > 1:
            await world.run(task_id, attempt)
    await world.reconcile()
    for task_id, attempt in await world.schedule():
        await world.run(task_id, attempt)
    await world.report(new_id("tsk"), 1)
    await world.record(progress(plain[1]))
    for task_id in (*plain, waits, retried, lost, cancelled):
        await world.look(task_id)
    await world.look(foreign, THERE)
    for tenant in (HERE, THERE):
        await world.list_tasks(tenant)


@asynccontextmanager
async def a_world(postgres_url: str, nats_url: str, folder: Path) -> AsyncGenerator[World, None]:
    """An empty world on servers that others may have used before."""
    async with connected_to(nats_url, name="test") as nc:
        await _empty(nc.jetstream())
        pool = await open_pool(postgres_url, name="test", wait_s=60)
        world = World(postgres_url, nats_url, pool, nc, folder)
        try:
            names = ", ".join(f"ledger.{name}" for (name,) in await world.execute(TABLES))
            await world.execute(f"truncate {names}")
            yield world
        finally:
            world.history.close()
            await pool.close()


async def _empty(js: JetStreamContext) -> None:
    """Begin the histories anew, and empty the queues."""
    there = {info.config.name for info in await js.streams_info()}
    for spec in STREAMS:
        if spec.name not in there:
            continue
        if spec.retention is not HISTORY:
            await js.purge_stream(spec.name)
        else:
            await js.delete_stream(spec.name)
            await js.add_stream(stream_config(spec, replicas=1))
    if not there:
        await provision(js)


def migrated(postgres_url: str) -> str:
    """Migrate a database; gives its URL."""
    upgrade(postgres_url, MIGRATIONS, SCHEMA)
    return postgres_url
