"""Ask a scheduler: its queue, and why a task waits."""

from dataclasses import dataclass

from nats.aio.client import Client

from octarm.common.bus.requests import ask
from octarm.models import subjects
from octarm.models.queries import GetQueue, QueueView, Waiting, WhyWaiting


@dataclass(frozen=True, slots=True)
class SchedulerClient:
    """Requests to the active scheduler of a shard, over a connection that somebody else closes.

    Each method raises `Unavailable` when no scheduler leads the shard.
    """

    nc: Client
    timeout_s: float = 5.0

    async def queue(self, shard: int = 0) -> QueueView:
        """Show what waits at a shard."""
        return await ask(
            self.nc,
            subjects.GET_QUEUE,
            GetQueue(shard=shard),
            timeout_s=self.timeout_s,
            at={"shard": shard},
        )

    async def why_waiting(self, task_id: str, shard: int = 0) -> Waiting:
        """Say why a task has not been placed; `shard_of` names the shard."""
        return await ask(
            self.nc,
            subjects.WHY_WAITING,
            WhyWaiting(task_id=task_id),
            timeout_s=self.timeout_s,
            at={"shard": shard},
        )
