"""Keep the picture of the fleet true while nothing else happens."""

import asyncio
from typing import Final

from octarm.common.telemetry import get_logger, metrics
from octarm.models.errors import OctarmError
from octarm.models.hot import Heartbeat
from octarm.policies.queue.tasks import TIERS
from octarm.scheduler.usecases.desk import Desk
from octarm.scheduler.usecases.follow import HearHeartbeat, SweepFlights

LONGEST_PAUSE_S: Final = 5.0
SHORTEST_PAUSE_S: Final = 0.2

log = get_logger()


class TendFleet:
    """Takes heartbeats, drops silent instances and lost attempts, and shows the figures."""

    def __init__(self, desk: Desk, sweep: SweepFlights) -> None:
        self._desk = desk
        self._sweep = sweep
        self._hear = HearHeartbeat(desk)
        self._suspected: dict[str, None] = {}

    def hear(self, beat: Heartbeat) -> None:
        """Take a heartbeat; an arm with lost attempts is swept at the next turn."""
        if self._hear(beat):
            self._suspected[beat.arm_id] = None

    async def run(self) -> None:
        """Tend until cancelled."""
        while True:
            await self.turn()
            due = self._desk.fleet.next_expiry()
            left_s = LONGEST_PAUSE_S if due is None else due - self._desk.clock.monotonic()
            await asyncio.sleep(min(max(left_s, SHORTEST_PAUSE_S), LONGEST_PAUSE_S))

    async def turn(self) -> None:
        """Do once what is due."""
        desk = self._desk
        gone = desk.fleet.expire(desk.clock.monotonic())
        if gone:
            log.warning("instances_silent", instances=gone)
            desk.poke()
        while self._suspected:
            arm_id, _ = self._suspected.popitem()
            try:
                await self._sweep(arm_id)
            except OctarmError as error:
                log.warning("sweep_failed", arm_id=arm_id, error=error.message)
        self._show()

    def _show(self) -> None:
        queue = self._desk.queue
        for tier, depth in zip(TIERS, queue.depth, strict=True):
            metrics.put("octarm_scheduler_queued_tasks", depth, tier=tier)
        now = self._desk.now_s()
        # The view keeps the order of arrival, so the first is as good as the oldest.
        first = next(iter(queue), None)
        waited_s = 0.0 if first is None else max(now - first.queued_at, 0.0)
        metrics.put("octarm_scheduler_oldest_wait_seconds", waited_s)
