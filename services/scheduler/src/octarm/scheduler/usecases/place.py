"""The scheduling cycle: decide, then dispatch; one at a time."""

import asyncio
import math
import time
from typing import Final

from octarm.common.telemetry import get_logger, metrics
from octarm.policies.collecting import TIDY
from octarm.scheduler.domain.tasks import QueuedTask
from octarm.scheduler.usecases.decide import Decide, Decided
from octarm.scheduler.usecases.desk import Desk
from octarm.scheduler.usecases.dispatch import Dispatch
from octarm.scheduler.usecases.reject import RejectTasks

UNSETTLED_WAIT_S: Final = 0.1

log = get_logger()


class PlaceTasks:
    """Sends waiting tasks to arms whenever something has changed."""

    def __init__(self, desk: Desk, dispatch: Dispatch, decide: Decide, reject: RejectTasks) -> None:
        self._desk = desk
        self._dispatch = dispatch
        self._decide = decide
        self._reject = reject
        self._again_s: float | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Run cycles until `stop` is set or another leads; poke the desk after setting it."""
        while not stop.is_set() and not self._dispatch.deposed:
            self._desk.work.clear()
            if await self.cycle():
                TIDY(resting=False)
                continue
            if self._dispatch.deposed:
                return
            if self._dispatch.unsettled:
                await asyncio.sleep(UNSETTLED_WAIT_S)
                continue
            timer = self._timer()
            TIDY(resting=not self._desk.work.is_set())
            await self._desk.work.wait()
            if timer is not None:
                timer.cancel()

    async def cycle(self) -> int:
        """Run one cycle; gives how many tasks were decided on."""
        desk, began = self._desk, time.perf_counter()
        if not desk.may_place():
            return 0
        for task in desk.queue.overdue(desk.now_s()):
            log.info("task_overdue", task_id=task.task_id)
            desk.done(task)
        if desk.dropped:
            self._reject(desk.dropped, "QUEUE_FULL")
            desk.dropped = []
        paused_until = desk.fleet.resume(desk.clock.monotonic())
        decided = await self._decide()
        if decided is None:
            return 0
        placements, desk.policy = decided.placements, decided.policy
        if placements:
            metrics.observe("octarm_scheduler_cycle_seconds", time.perf_counter() - began)
        elif paused_until is None:
            desk.progress_at = desk.clock.monotonic()
        if placements or self._dispatch.unsettled:
            placed = await self._dispatch(placements, desk.clock.now(), policy=desk.policy)
            if placed:
                desk.progress_at = desk.clock.monotonic()
                desk.pace.add(placed, now=desk.progress_at)
                desk.recent.placed.add(placed, now=desk.progress_at)
                metrics.inc("octarm_scheduler_placements_total", placed, policy=desk.policy)
            if desk.full:
                desk.more_room()
        if decided.rejected:
            self._reject(_refused(decided), "POLICY_REJECTED")
        self._again_s = decided.again_s
        return len(placements) + len(decided.rejected)

    def _timer(self) -> asyncio.TimerHandle | None:
        desk = self._desk
        wait_s = math.inf if self._again_s is None else self._again_s
        if (due := desk.queue.next_timer()) is not None:
            wait_s = min(wait_s, due - desk.now_s())
        if (resume_at := desk.fleet.resume(desk.clock.monotonic())) is not None:
            wait_s = min(wait_s, resume_at - desk.clock.monotonic())
        if wait_s == math.inf:
            return None
        return asyncio.get_running_loop().call_later(max(wait_s, 0.001), desk.poke)


def _refused(decided: Decided) -> list[tuple[QueuedTask, str]]:
    by = f"the policy {decided.policy} refuses it"
    return [(task, f"{by}: {reason}" if reason else by) for task, reason in decided.rejected]
