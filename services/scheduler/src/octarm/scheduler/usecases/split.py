"""Part the tasks that still wait from those of the same READY message that are placed.

A message is acknowledged with its last task. Were one task to wait for hours, the others would
take room in READY as long, and each new leader would ask the ledger about them again.
"""

import asyncio
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

import msgspec

from octarm.common.bus.publisher import Outgoing, Publishes
from octarm.common.clock import set_within
from octarm.common.telemetry import get_logger
from octarm.models.errors import OctarmError
from octarm.models.hot import PlaceTasks
from octarm.models.subjects import PLACE_TASKS
from octarm.scheduler.domain.tasks import Hold, QueuedTask
from octarm.scheduler.usecases.desk import Desk

SPLIT_AFTER_S: Final = 60.0
EVERY_S: Final = 30.0

log = get_logger()
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class SplitMessages:
    """Publish what still waits of partly placed messages as messages of their own.

    When such a copy is read, its tasks leave the old message, which is then acknowledged. A
    crash before that leaves both, and the same attempt in both is one.
    """

    desk: Desk
    bus: Publishes

    async def run(self, stop: asyncio.Event) -> None:
        """Look every half minute until `stop`."""
        while not await set_within(stop, EVERY_S):
            await self()

    async def __call__(self) -> int:
        """Split what has been partly placed for a minute; gives the number of messages."""
        due = [] if self.desk.full else self._due()
        answers = await self.bus.publish_many([self._rest(tasks) for _, tasks in due])
        split = 0
        for (hold, _), answer in zip(due, answers, strict=True):
            if isinstance(answer, OctarmError):
                log.warning("split_failed", seq=hold.seq, error=answer.message)
            else:
                split += 1
        return split

    def _due(self) -> list[tuple[Hold, list[QueuedTask]]]:
        now = self.desk.clock.monotonic()
        due = []
        for hold, tasks in self.desk.queue.partly_done().items():
            if hold.split_at is None:
                hold.split_at = now + SPLIT_AFTER_S
            elif hold.split_at <= now:
                hold.split_at = None
                due.append((hold, tasks))
        return due

    def _rest(self, tasks: list[QueuedTask]) -> Outgoing:
        payload = _encode(PlaceTasks([task.ready for task in tasks]))
        digest = blake2b(payload, digest_size=16).hexdigest()
        return Outgoing(PLACE_TASKS.at(shard=self.desk.shard), payload, f"s:{digest}")
