"""Tell the ledger of placements; only then are the READY messages acknowledged."""

import asyncio
from collections import deque
from datetime import datetime
from hashlib import blake2b
from typing import Final

import msgspec

from octarm.common.bus.publisher import Outgoing, Publishes
from octarm.common.failpoints import failpoint
from octarm.common.telemetry import get_logger
from octarm.models.commands import MAX_BATCH
from octarm.models.errors import OctarmError
from octarm.models.hot import Placement, PlacementsMade, ReadyTask
from octarm.models.subjects import PLACEMENTS_MADE
from octarm.scheduler.domain.fleet import Flight
from octarm.scheduler.domain.tasks import Hold
from octarm.scheduler.usecases.desk import Desk

MAX_MESSAGES: Final = 16
RETRY_AFTER_S: Final = 0.5

log = get_logger()
_encode = msgspec.json.Encoder().encode


class Announcer:
    """Publishes placements in the order they were made, again and again until they landed."""

    def __init__(self, desk: Desk, bus: Publishes, *, policy: str) -> None:
        self._desk = desk
        self._bus = bus
        self._policy = policy
        self._waiting: deque[tuple[Placement, Hold]] = deque()
        self._arrived = asyncio.Event()
        self._subject = PLACEMENTS_MADE.at(shard=desk.shard)

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, placement: Placement, hold: Hold) -> None:
        """Announce a placement soon, then count it off its READY message."""
        self._waiting.append((placement, hold))
        self._arrived.set()

    def wake(self) -> None:
        """Look again whether to stop."""
        self._arrived.set()

    def found(self, ready: ReadyTask, flight: Flight, hold: Hold, *, at: datetime) -> None:
        """Announce a placement that an earlier leader may have made without saying so."""
        placement = Placement(
            ready.task_id,
            ready.attempt,
            flight.arm.arm_id,
            flight.dispatch_seq,
            at,
            self._policy,
            "found under way when the queue was read again",
        )
        self.put(placement, hold)

    async def run(self, stop: asyncio.Event) -> None:
        """Announce until `stop` is set and nothing is left, or the bus refuses after `stop`.

        Call `wake` after setting `stop`.
        """
        while not stop.is_set() or self._waiting:
            if not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            if not await self._flush() and stop.is_set():
                return

    async def _flush(self) -> bool:
        taken = [self._waiting.popleft() for _ in range(min(len(self._waiting), 64 * MAX_MESSAGES))]
        batches = [taken[at : at + MAX_BATCH] for at in range(0, len(taken), MAX_BATCH)]
        answers = await self._bus.publish_many([self._message(batch) for batch in batches])
        failpoint("placements_before_ack")
        failed: list[tuple[Placement, Hold]] = []
        for batch, answer in zip(batches, answers, strict=True):
            if isinstance(answer, OctarmError):
                log.warning("placements_not_announced", error=answer.message)
                failed += batch
                continue
            for _, hold in batch:
                self._desk.finish(hold)
        if failed:
            self._waiting.extendleft(reversed(failed))
            await asyncio.sleep(RETRY_AFTER_S)
        return not failed

    def _message(self, batch: list[tuple[Placement, Hold]]) -> Outgoing:
        body = PlacementsMade(self._desk.shard, [placement for placement, _ in batch])
        payload = _encode(body)
        digest = blake2b(payload, digest_size=16).hexdigest()
        return Outgoing(self._subject, payload, f"m:{digest}")
