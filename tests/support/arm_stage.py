"""Everything around an arm, played on a real nats-server: registry, scheduler, ledger."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from nats.aio.client import Client as NATS
from nats.aio.msg import Msg

from octarm.common.bus.connection import connect
from octarm.common.bus.publisher import Outgoing, Publisher
from octarm.common.bus.requests import ok, problem
from octarm.common.bus.topology import ensure_arm_consumer, provision
from octarm.models import subjects
from octarm.models.arms import ArmRecord, Heartbeat
from octarm.models.commands import AttemptsUpdated, CancelAttempt, Chunk, ResultsReported, RunTask
from octarm.models.contracts import TaskContract
from octarm.models.errors import Forbidden, NotFound, OctarmError
from octarm.models.ids import new_id
from octarm.models.queries import ArmKey, RegisterArm
from octarm.models.results import ExecutionResult
from octarm.sdk import Arm
from tests.support.wait import wait_until
from tests.support.workers import a_bundle


def a_task(**fields: Any) -> TaskContract:
    """A task of tenant acme; fields may be overridden."""
    given: dict[str, Any] = {
        "task_id": new_id("tsk"),
        "tenant": "acme",
        "goal": "count the words",
        "created_at": datetime.now(UTC),
    }
    return TaskContract(**given | fields)


def a_command(task: TaskContract, attempt: int = 1, traceparent: str = "") -> RunTask:
    """The command to run one attempt of a task."""
    return RunTask(
        task_id=task.task_id,
        attempt=attempt,
        traceparent=traceparent,
        task=task,
    )


@dataclass
class ArmStage:
    """Plays the services around an arm and keeps what the arm says."""

    nc: NATS
    url: str
    publisher: Publisher
    known: dict[str, ArmRecord] = field(default_factory=dict)
    refusal: OctarmError | None = None
    owned: set[str] = field(default_factory=set)
    registrations: int = 0
    beats: list[Heartbeat] = field(default_factory=list)
    results: list[ExecutionResult] = field(default_factory=list)
    result_headers: list[dict[str, str]] = field(default_factory=list)
    updates: list[AttemptsUpdated] = field(default_factory=list)
    chunks: list[Chunk] = field(default_factory=list)

    async def open(self) -> None:
        """Subscribe to everything that an arm says."""
        await provision(self.nc.jetstream())
        for subject, callback in (
            (subjects.REGISTER_ARM.template, self._register),
            (subjects.GET_ARM.template, self._get),
            (subjects.HEARTBEAT.pattern, self._beat),
            (subjects.RESULT.pattern, self._result),
            (subjects.RESULTS_REPORTED.pattern, self._report),
            (subjects.ATTEMPTS_UPDATED.pattern, self._update),
            (subjects.CHUNK.pattern, self._chunk),
        ):
            await self.nc.subscribe(subject, cb=callback)
        await self.nc.flush()

    async def _register(self, msg: Msg) -> None:
        self.registrations += 1
        if self.refusal is not None:
            await msg.respond(problem(self.refusal))
            return
        arm = RegisterArm.model_validate_json(msg.data).arm
        if arm.arm_id in self.owned:
            await msg.respond(problem(Forbidden("another key owns this arm")))
            return
        await ensure_arm_consumer(self.nc.jetstream(), arm.arm_id)
        now = datetime.now(UTC)
        record = ArmRecord(arm=arm, status="online", registered_at=now, changed_at=now)
        self.known[arm.arm_id] = record
        await msg.respond(ok(record.model_dump_json().encode()))

    async def _get(self, msg: Msg) -> None:
        record = self.known.get(ArmKey.model_validate_json(msg.data).arm_id)
        if record is None:
            await msg.respond(problem(NotFound("no such arm", code="ARM_NOT_FOUND")))
        else:
            await msg.respond(ok(record.model_dump_json().encode()))

    async def _beat(self, msg: Msg) -> None:
        self.beats.append(Heartbeat.model_validate_json(msg.data))

    async def _result(self, msg: Msg) -> None:
        self.results.append(ExecutionResult.model_validate_json(msg.data))
        self.result_headers.append(dict(msg.headers or {}))

    async def _update(self, msg: Msg) -> None:
        self.updates.append(AttemptsUpdated.model_validate_json(msg.data))

    async def _report(self, msg: Msg) -> None:
        self.results += ResultsReported.model_validate_json(msg.data).results

    async def _chunk(self, msg: Msg) -> None:
        self.chunks.append(Chunk.model_validate_json(msg.data))

    async def dispatch(self, arm_id: str, *commands: RunTask, again: str = "") -> None:
        """Send run commands; `again` makes a command another message with the same content."""
        messages = [
            Outgoing(
                subjects.RUN_TASKS.at(arm_id=arm_id),
                a_bundle(command, arm_id=arm_id).model_dump_json().encode(),
                f"d:{command.task_id}:{command.attempt}{again}",
            )
            for command in commands
        ]
        for answer in await self.publisher.publish_many(messages):
            if isinstance(answer, OctarmError):
                raise answer

    async def cancel(self, arm_id: str, command: RunTask, reason: str = "") -> None:
        """Call an attempt off."""
        order = CancelAttempt(task_id=command.task_id, attempt=command.attempt, reason=reason)
        subject = subjects.CONTROL.at(arm_id=arm_id)
        await self.nc.publish(subject, order.model_dump_json().encode())
        await self.nc.flush()

    async def result_of(self, command: RunTask, timeout_s: float = 5) -> ExecutionResult:
        """Wait for the result of an attempt."""
        key = (command.task_id, command.attempt)
        await wait_until(lambda: key in [(r.task_id, r.attempt) for r in self.results], timeout_s)
        return next(r for r in self.results if (r.task_id, r.attempt) == key)

    @asynccontextmanager
    async def serving(self, arm: Arm, **options: Any) -> AsyncGenerator[asyncio.Event, None]:
        """Let an arm serve until the block ends; yields its stop event."""
        stop = asyncio.Event()
        options = {"heartbeat_s": 0.2, "drain_s": 5.0} | options
        serving = asyncio.create_task(arm.serve(nats_url=self.url, stop=stop, **options))
        try:
            await wait_until(lambda: self.beats or serving.done())
            yield stop
        finally:
            stop.set()
            await serving


@asynccontextmanager
async def an_arm_stage(url: str) -> AsyncGenerator[ArmStage, None]:
    """A provisioned bus with the services around an arm."""
    nc = await connect(url, name="stage")
    publisher = Publisher(nc)
    stage = ArmStage(nc, url, publisher)
    try:
        await stage.open()
        yield stage
    finally:
        await publisher.close()
        await nc.close()
