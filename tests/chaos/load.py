"""A load that keeps count: what was accepted, when it ended, how."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import nats

from octarm.common.bus.publisher import Outgoing, Publisher
from octarm.models.commands import SubmitTask
from octarm.models.contracts import TaskSubmission
from octarm.models.errors import OctarmError
from octarm.models.ids import new_id
from octarm.models.rejections import Rejection
from octarm.models.subjects import SUBMIT_TASK
from octarm.sdk import Client, Task
from octarm.verify.history import HistoryWriter, Invocation
from tests.support.crashing_arm import NAME

NAP_S: Final = 0.05
GIVE_UP_S: Final = 120.0


@dataclass(slots=True)
class Load:
    """Tasks of one tenant, and when each was handed in, accepted and ended (monotonic)."""

    client: Client
    history: HistoryWriter
    tasks: list[Task] = field(default_factory=list)
    began: dict[str, float] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)
    last_end: float = 0.0
    last_accepted: float = 0.0
    _next: int = 0

    def submission(self, **changes: Any) -> dict[str, Any]:
        """The next task: one in ten fails at first and is tried again."""
        number, self._next = self._next, self._next + 1
        context = {"number": number, "nap_s": NAP_S, "fails": 1 if number % 10 == 3 else 0}
        return {
            "goal": "crash",
            "assigned_arm": NAME,
            "context": {**context, **changes.pop("context", {})},
            "idempotency_key": f"crash-{number}",
            **changes,
        }

    async def submit(self, count: int, **changes: Any) -> list[Task]:
        """Hand in so many tasks; each asks again until it has its answer."""
        return await self._hand_in([self.submission(**changes) for _ in range(count)])

    async def submit_chains(self, count: int) -> list[Task]:
        """Hand in so many tasks that each wait for one that was handed in before."""
        needed = [task.id for task in self.tasks[-count:]]
        return await self._hand_in([self.submission(depends_on=[need]) for need in needed])

    async def _hand_in(self, submissions: list[dict[str, Any]]) -> list[Task]:
        at = time.monotonic()
        asked = [self._asks("submit", key=one["idempotency_key"]) for one in submissions]
        tasks = await self.client.submit_many(submissions, timeout=GIVE_UP_S)
        for task, invocation in zip(tasks, asked, strict=True):
            invocation.ok(task_id=task.id)
            self.follow(task, at)
        return tasks

    def _asks(self, op: str, **args: Any) -> Invocation:
        return self.history.invoke(op, tenant=self.client.tenant, **args)

    def follow(self, task: Task, at: float) -> None:
        """Count a task that was accepted."""
        self.tasks.append(task)
        self.last_accepted = time.monotonic()
        self.began[task.id] = at
        task.fate.when_ended(lambda _: self._ended(task.id))

    def _ended(self, task_id: str) -> None:
        self.last_end = self.ended[task_id] = time.monotonic()

    async def submit_by_bus(self, nats_url: str, count: int) -> None:
        """Publish so many tasks on INTAKE: the acknowledgement of the stream is all they get."""
        async with _publisher(nats_url) as publisher:
            at = time.monotonic()
            for _ in range(count):
                task_id = new_id("tsk")
                body = SubmitTask(
                    task_id=task_id, submission=TaskSubmission.model_validate(self.submission())
                )
                payload = body.model_dump_json(exclude_unset=True).encode()
                subject = SUBMIT_TASK.at(tenant=self.client.tenant)
                asked = self._asks("publish", task_id=task_id)
                ack = await publisher.publish(Outgoing(subject, payload, task_id))
                asked.ok(seq=ack.seq)
                self.began[task_id] = at
        await self._find(count)

    async def _find(self, count: int) -> None:
        """Follow what was published, once the ledger has it."""
        until = time.monotonic() + GIVE_UP_S
        missing = [task_id for task_id in self.began if task_id not in self.ids]
        while missing:
            assert time.monotonic() < until, f"{len(missing)} of {count} were never accepted"
            await asyncio.sleep(0.1)
            try:
                found = await self.client._ledger.states(self.client.tenant, missing)
            except OctarmError:
                continue
            for task_id in found:
                self.follow(self.client.task(task_id), self.began[task_id])
            missing = [task_id for task_id in missing if task_id not in found]

    async def submit_by_http(self, gateway: str, count: int) -> None:
        """Post so many tasks, each again with its key until it is answered."""
        async with httpx.AsyncClient(base_url=gateway, timeout=10) as http:
            bodies = [self.submission() for _ in range(count)]
            at = time.monotonic()
            asked = [self._asks("submit", key=body["idempotency_key"]) for body in bodies]
            ids = await asyncio.gather(*(_posted(http, body) for body in bodies))
        for task_id, invocation in zip(ids, asked, strict=True):
            invocation.ok(task_id=task_id)
            self.follow(self.client.task(task_id), at)

    @property
    def ids(self) -> set[str]:
        """The tasks that were accepted."""
        return {task.id for task in self.tasks}

    async def cancel(self, tasks: Iterable[Task]) -> None:
        """Call tasks off, asking again until each answer came."""
        await asyncio.gather(*(self._cancel(task) for task in tasks))

    async def _cancel(self, task: Task) -> None:
        until = time.monotonic() + GIVE_UP_S
        asked = self._asks("cancel", task_id=task.id)
        while True:
            try:
                said = await self.client.cancel(task.id, "chaos")
                cancelling = said.cancelling_since is not None
                asked.ok(state=said.state.value, cancelling=cancelling)
                return
            except OctarmError:
                assert time.monotonic() < until, f"{task.id} was never cancelled"
                await asyncio.sleep(0.2)

    async def reject(self, tasks: Iterable[Task]) -> None:
        """Reject queued tasks, asking again until the answer came."""
        until = time.monotonic() + GIVE_UP_S
        unwanted = [Rejection(task_id=it.id, attempt=1, code="POLICY_REJECTED") for it in tasks]
        while True:
            try:
                await self.client._ledger.reject(unwanted)
                return
            except OctarmError:
                assert time.monotonic() < until, "nobody said that they are rejected"
                await asyncio.sleep(0.2)

    async def all_ended(self, timeout_s: float = GIVE_UP_S) -> None:
        """Wait until each accepted task has ended, by what its client hears.

        Raises:
            AssertionError: some did not in time.
        """
        until = time.monotonic() + timeout_s
        while len(self.ended) < len(self.tasks):
            open_ones = [task for task in self.tasks if task.id not in self.ended]
            assert time.monotonic() < until, f"{len(open_ones)} never ended, such as {open_ones[0]}"
            await asyncio.sleep(0.02)


async def _posted(http: httpx.AsyncClient, body: dict[str, Any]) -> str:
    until = time.monotonic() + GIVE_UP_S
    while True:
        try:
            answer = await http.post("/v1/tasks", json=body)
            if answer.status_code in (200, 202):
                return str(answer.json()["task_id"])
            assert answer.status_code in (429, 503, 504), answer.text
        except httpx.TransportError:
            pass
        assert time.monotonic() < until, "a task was never accepted"
        await asyncio.sleep(0.2)


@asynccontextmanager
async def _publisher(nats_url: str) -> AsyncGenerator[Publisher, None]:
    connection = await nats.connect(nats_url)
    try:
        yield Publisher(connection)
    finally:
        await connection.close()
