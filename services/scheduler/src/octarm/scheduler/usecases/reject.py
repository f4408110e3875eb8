"""End waiting tasks that a policy does not want; their submitters are told."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from octarm.common.telemetry import get_logger
from octarm.models.errors import NotFound, OctarmError
from octarm.scheduler.domain.tasks import QueuedTask
from octarm.scheduler.usecases.desk import Desk

log = get_logger()


class Cancels(Protocol):
    """The part of the orchestrator's client that is needed."""

    async def cancel(self, tenant: str, task_id: str, reason: str = "") -> object:
        """Call a task off; idempotent."""
        ...


@dataclass(slots=True)
class RejectTasks:
    """Asks the ledger to end tasks, and lets those wait again that it could not be told of."""

    desk: Desk
    ledger: Cancels
    _running: set[asyncio.Task[None]] = field(default_factory=set)

    def __call__(self, rejected: Sequence[tuple[QueuedTask, str]], policy: str) -> None:
        """Begin; the tasks have left the queue already."""
        for task, reason in rejected:
            running = asyncio.create_task(self._reject(task, f"rejected by {policy}: {reason}"))
            self._running.add(running)
            running.add_done_callback(self._running.discard)

    async def _reject(self, task: QueuedTask, reason: str) -> None:
        desk, queue = self.desk, self.desk.queue
        try:
            await self.ledger.cancel(task.tenant, task.task_id, reason[:1000])
        except NotFound:
            log.info("rejected_task_is_gone", task_id=task.task_id)
        except OctarmError as error:
            log.warning("task_not_rejected", task_id=task.task_id, error=error.message)
            if queue is desk.queue and not queue.ended(*task.key) and not queue.get(task.task_id):
                queue.add(task, now=desk.now_s())
                return
        if queue is desk.queue:
            desk.done(task)

    async def aclose(self) -> None:
        """Leave what is under way: who leads next asks again."""
        for running in self._running:
            running.cancel()
        if self._running:
            await asyncio.wait(self._running)
