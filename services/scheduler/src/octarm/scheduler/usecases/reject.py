"""End tasks that are not to be placed, or made room for others; their submitters are told."""

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
AGAIN_AFTER_S: Final = 1.0

log = get_logger()


class Rejects(Protocol):
    """The part of the orchestrator's client that is needed."""

    async def reject(self, tasks: Sequence[Rejection]) -> object:
        """End those that are queued still; idempotent."""
        ...


@dataclass(slots=True)
class RejectTasks:
    """Asks the ledger to end tasks; those that it could not be told of wait again.

    What made room for others has none to wait in: of these it is told until it has heard.
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
            self.desk.ending.add(task.key)
        if self._waiting and self._running is None:
            self._running = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            while some := self._waiting[:MAX_REJECTIONS]:
                del self._waiting[: len(some)]
                if not await self._reject(some) and self._waiting:
                    await asyncio.sleep(AGAIN_AFTER_S)
        finally:
            self._running = None

    async def _reject(self, some: Sequence[tuple[QueuedTask, Rejection]]) -> bool:
        desk, queue = self.desk, self.desk.queue
        try:
            await self.ledger.reject([rejection for _, rejection in some])
        except OctarmError as error:
            log.warning("tasks_not_rejected", number=len(some), error=error.message)
            if queue is desk.queue:
                self._keep(some, again=error.retryable)
            return False
        for task, rejection in some:
            metrics.inc("octarm_scheduler_rejected_total", code=rejection.code)
            desk.ending.discard(task.key)
            desk.done(task)
        if desk.full:
            desk.more_room()
        return True

    def _keep(self, some: Sequence[tuple[QueuedTask, Rejection]], *, again: bool) -> None:
        """Keep those that have not ended, and of which no later attempt has come."""
        desk, queue = self.desk, self.desk.queue
        for task, rejection in some:
            superseded = queue.ended(*task.key) or queue.get(task.task_id) is not None
            if rejection.code == "QUEUE_FULL" and again and not superseded:
                self._waiting.append((task, rejection))
                continue
            desk.ending.discard(task.key)
            if superseded:
                desk.done(task)
            else:
                queue.add(task, now=desk.now_s())

    async def aclose(self) -> None:
        """Leave what is under way: who leads next asks again."""
        if (running := self._running) is not None:
            await end(running)
