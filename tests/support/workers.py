"""A worker of the SDK with fakes around it."""

from datetime import UTC, datetime
from typing import Any, cast

from octarm.clients.episodes import EpisodeWriter
from octarm.clients.memory import MemoryClient
from octarm.common.bus.delivery import Delivery
from octarm.common.bus.publisher import Outgoing
from octarm.models.commands import CancelAttempt, RunTask, RunTasks
from octarm.models.contracts import TaskContract
from octarm.models.ids import new_id
from octarm.models.results import ExecutionResult
from octarm.sdk.handlers import runnable
from octarm.sdk.recall import Recall
from octarm.sdk.recent import Key
from octarm.sdk.spending import Call
from octarm.sdk.worker import Identity, Worker
from tests.support.wait import wait_until


class FakeDelivery:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.settled = ""

    def ack(self) -> None:
        self.settled = "ack"

    def retry(self, after_s: float = 0.0) -> None:
        self.settled = "retry"


class RecordingReports:
    def __init__(self) -> None:
        self.said: list[object] = []

    def started(self, key: Key, at: datetime) -> None:
        self.said.append("started")

    def ended(self, key: Key) -> None:
        self.said.append("ended")

    def progress(self, task_id: str, attempt: int, fraction: float, message: str) -> None:
        self.said.append((fraction, message))

    def chunk(self, task_id: str, attempt: int, seq: int, text: str) -> None:
        self.said.append((seq, text))

    def throttled(self, retry_after_s: float) -> None:
        self.said.append(("throttled", retry_after_s))

    def spent(self, task_id: str, attempt: int, call: Call) -> None:
        self.said.append(call)


class Arrangement:
    """A worker and what it publishes."""

    def __init__(
        self, handler: Any, *, slots: int = 2, cut_off_after_s: float = 0.05, held_s: float = 25.0
    ) -> None:
        self.published: list[Outgoing] = []
        self.reports = RecordingReports()
        self.worker = Worker(
            Identity("worker", "i-1"),
            runnable(handler),
            slots=slots,
            publish=self.published.append,
            announce=self.reports,
            recall=lambda tenant, task_id: Recall(
                cast(MemoryClient, None), tenant, "worker", cast(EpisodeWriter, None), task_id
            ),
            cut_off_after_s=cut_off_after_s,
            held_s=held_s,
        )

    async def deliver(self, *deliveries: FakeDelivery) -> list[Any]:
        return list(await self.worker.handle(cast(list[Delivery], list(deliveries))))

    async def run(self, command: RunTask) -> ExecutionResult:
        await self.deliver(delivered(command))
        return await self.result()

    async def result(self) -> ExecutionResult:
        await wait_until(lambda: self.published)
        return ExecutionResult.model_validate_json(self.published[-1].payload)

    def cancel(self, command: RunTask, reason: str = "") -> None:
        order = CancelAttempt(task_id=command.task_id, attempt=command.attempt, reason=reason)
        self.worker.cancel(order)


def a_command(*, traceparent: str = "", **fields: Any) -> RunTask:
    task = TaskContract(
        task_id=new_id("tsk"), tenant="acme", goal="count", created_at=datetime.now(UTC), **fields
    )
    return RunTask(
        task_id=task.task_id, attempt=1, slots=task.slots, traceparent=traceparent, task=task
    )


def a_bundle(*commands: RunTask, arm_id: str = "worker", shard: int = 0) -> RunTasks:
    return RunTasks(
        shard=shard,
        arm_id=arm_id,
        placed_at=datetime.now(UTC),
        policy="priority",
        tasks=list(commands),
    )


def delivered(*commands: RunTask) -> FakeDelivery:
    return FakeDelivery(a_bundle(*commands).model_dump_json().encode())


def code_of(result: ExecutionResult) -> str:
    assert result.error is not None
    return result.error.code
