"""End waiting tasks that are not to be placed; their submitters are told."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from octarm.common.cancelling import end
from octarm.common.telemetry import get_logger, metrics
from octarm.models.errors import OctarmError
from octarm.models.rejections import MAX_REJECTIONS, Rejection, RejectionCode
from octarm.scheduler.domain.tasks import QueuedTask
from octarm.scheduler.usecases.desk import Desk

MAX_TEXT: Final = 1500

log = get_logger()


class Rejects(Protocol):
    """The part of the orchestrator's client that is needed."""

    async def reject(self, tasks: Sequence[Rejection]) -> object:
        """End those that are queued still; idempotent."""
        ...


@dataclass(slots=True)
class RejectTasks:
    """Asks the ledger to end tasks, and lets those wait again that it could not be told of.

    One request is under way at a time; what comes meanwhile goes with the next.
    """

    desk: Desk
    ledger: Rejects
    _waiting: list[tuple[QueuedTask, Rejection]] = field(default_factory=list)
    _running: asyncio.Task[None] | None = None

    def __call__(self, tasks: Sequence[tuple[QueuedTask, str]], code: RejectionCode) -> None:
        """Begin; the tasks have left the queue already, each for its reason."""
        for task, reason in tasks:
            rejection = Rejection(
                task_id=task.task_id, attempt=task.attempt, code=code, reason=reason[:MAX_TEXT]
            )
            self._waiting.append((task, rejection))
        if self._waiting and self._running is None:
            self._running = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            while some := self._waiting[:MAX_REJECTIONS]:
                del self._waiting[: len(some)]
                await self._reject(some)
        finally:
            self._running = None

    async def _reject(self, some: Sequence[tuple[QueuedTask, Rejection]]) -> None:
        desk, queue = self.desk, self.desk.queue
        try:
            await self.ledger.reject([rejection for _, rejection in some])
        except OctarmError as error:
            log.warning("tasks_not_rejected", number=len(some), error=error.message)
            if queue is desk.queue:
                self._wait_again([task for task, _ in some])
            return
        for task, rejection in some:
            metrics.inc("octarm_scheduler_rejected_total", code=rejection.code)
            desk.done(task)

    def _wait_again(self, tasks: Sequence[QueuedTask]) -> None:
        """Let those wait that have not ended, and of which no copy has come."""
        desk, queue = self.desk, self.desk.queue
        for task in tasks:
            if queue.ended(*task.key) or queue.get(task.task_id) is not None:
                desk.done(task)
            else:
                queue.add(task, now=desk.now_s())

    async def aclose(self) -> None:
        """Leave what is under way: who leads next asks again."""
        if (running := self._running) is not None:
            await end(running)
