"""The scheduling cycle: decide, dispatch, announce; one at a time."""

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec

from octarm.common.bus.publisher import Outgoing, PubAck, Publishes, trace_head
from octarm.common.failpoints import failpoint
from octarm.common.telemetry import get_logger, metrics, tracing
from octarm.models.errors import OctarmError
from octarm.models.hot import Placement, RunTask
from octarm.models.subjects import RUN_TASK, dispatch_msg_id
from octarm.scheduler.domain.cycle import Decision, place
from octarm.scheduler.domain.priority import NAME, preference
from octarm.scheduler.usecases.announce import Announcer
from octarm.scheduler.usecases.desk import Desk
from octarm.scheduler.usecases.ports import Dispatched

PAUSE_S: Final = 1.0
MAX_UNANNOUNCED: Final = 4096
ANNOUNCE_WAIT_S: Final = 0.05

log = get_logger()
_encode = msgspec.json.Encoder().encode


class PlaceTasks:
    """Sends waiting tasks to arms whenever something has changed.

    A run command is published before its placement is announced, and the READY message is
    acknowledged last; a crash in between repeats the same Msg-Id, which DISPATCH drops.
    """

    def __init__(
        self, desk: Desk, bus: Publishes, dispatched: Dispatched, announcer: Announcer
    ) -> None:
        self._desk = desk
        self._bus = bus
        self._dispatched = dispatched
        self._announcer = announcer
        self._subjects: dict[str, str] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Run cycles until `stop` is set; poke the desk after setting it."""
        while not stop.is_set():
            self._desk.work.clear()
            if await self.cycle():
                continue
            if len(self._announcer) > MAX_UNANNOUNCED:
                await asyncio.sleep(ANNOUNCE_WAIT_S)
                continue
            timer = self._timer()
            await self._desk.work.wait()
            if timer is not None:
                timer.cancel()

    async def cycle(self) -> int:
        """Run one cycle; gives how many tasks were decided on."""
        desk, began = self._desk, time.perf_counter()
        if len(self._announcer) > MAX_UNANNOUNCED or not desk.may_place():
            return 0
        now = desk.clock.now()
        desk.queue.promote(now.timestamp())
        for task in desk.queue.drop_overdue(now.timestamp()):
            log.info("task_overdue", task_id=task.task_id)
            desk.done(task)
        paused_until = desk.fleet.resume(desk.clock.monotonic())
        decisions = place(desk.queue, desk.fleet, preference, now=desk.clock.monotonic())
        if decisions:
            metrics.observe("octarm_scheduler_cycle_seconds", time.perf_counter() - began)
            await self._dispatch(decisions, now)
            if desk.full:
                desk.more_room()
        elif paused_until is None:
            desk.progress_at = desk.clock.monotonic()
        return len(decisions)

    def _timer(self) -> asyncio.TimerHandle | None:
        desk = self._desk
        waits = []
        if (due := desk.queue.next_timer()) is not None:
            waits.append(due - desk.clock.now().timestamp())
        if (resume_at := desk.fleet.resume(desk.clock.monotonic())) is not None:
            waits.append(resume_at - desk.clock.monotonic())
        if not waits:
            return None
        return asyncio.get_running_loop().call_later(max(min(waits), 0.001), desk.poke)

    async def _dispatch(self, decisions: Sequence[Decision], now: datetime) -> None:
        answers = await self._bus.publish_many([self._command(it, now) for it in decisions])
        failpoint("dispatch_before_announce")
        placed = 0
        for decision, answer in zip(decisions, answers, strict=True):
            if isinstance(answer, OctarmError):
                self._undo(decision, answer)
            elif answer.duplicate:
                await self._was_dispatched(decision, answer, now)
            else:
                placed += 1
                self._announce(decision, answer.seq, now)
        if placed:
            self._desk.progress_at = self._desk.clock.monotonic()
            metrics.inc("octarm_scheduler_placements_total", placed, policy=NAME)

    def _command(self, decision: Decision, now: datetime) -> Outgoing:
        task, arm_id = decision.task, decision.arm.arm_id
        ready, traceparent = task.ready, task.ready.traceparent
        if tracing.is_sampled(traceparent):
            traceparent = tracing.record(
                "scheduler.place",
                traceparent,
                task.seen_ns,
                task_id=ready.task_id,
                attempt=ready.attempt,
                arm_id=arm_id,
                policy=NAME,
                reason=decision.reason,
            )
        subject = self._subjects.get(arm_id)
        if subject is None:
            subject = self._subjects[arm_id] = RUN_TASK.at(arm_id=arm_id)
        command = RunTask(ready.task_id, ready.attempt, now, ready.task, traceparent)
        msg_id = dispatch_msg_id(ready.task_id, ready.attempt)
        return Outgoing(subject, _encode(command), msg_id, trace_head(traceparent))

    def _announce(self, decision: Decision, seq: int, now: datetime) -> None:
        ready, desk = decision.task.ready, self._desk
        flight = desk.fleet.flight(ready.task_id, ready.attempt)
        if flight is not None:
            flight.dispatch_seq = seq
        placement = Placement(
            ready.task_id,
            ready.attempt,
            decision.arm.arm_id,
            seq,
            now,
            NAME,
            decision.reason,
            decision.scores,
        )
        self._announcer.put(placement, decision.task.hold)
        waited_s = now.timestamp() - decision.task.queued_at
        metrics.observe("octarm_scheduler_placement_seconds", max(waited_s, 0.0))

    def _undo(self, decision: Decision, error: OctarmError) -> None:
        """Let the task wait again; the arm is left alone for a moment.

        The command may have landed all the same: the next try has the same Msg-Id. What no
        retry can mend is dropped, so that it does not keep others from the arm; the ledger
        tells of it again when it has been queued for long.
        """
        desk, task, arm = self._desk, decision.task, decision.arm
        if not error.retryable:
            log.error("dispatch_refused", task_id=task.task_id, error=error.message)
            desk.fleet.release(task.task_id, task.attempt)
            desk.done(task)
            return
        if not arm.paused_until:
            log.warning("dispatch_failed", arm_id=arm.arm_id, error=error.message)
        desk.fleet.pause(arm, until=desk.clock.monotonic() + PAUSE_S)
        desk.fleet.release(task.task_id, task.attempt)
        newer = desk.queue.get(task.task_id)
        if newer is not None or desk.queue.ended(task.task_id, task.attempt):
            desk.done(task)
        else:
            desk.queue.add(task)

    async def _was_dispatched(self, decision: Decision, answer: PubAck, now: datetime) -> None:
        """Follow an earlier dispatch of the same attempt, perhaps to another arm."""
        desk, ready = self._desk, decision.task.ready
        desk.fleet.release(ready.task_id, ready.attempt)
        try:
            arm_id = await self._dispatched.arm_of(answer.seq)
        except OctarmError as error:
            self._undo(decision, error)
            return
        if arm_id is None:
            # It has been started, so the ledger hears of it from the arm itself.
            log.info("already_started", task_id=ready.task_id, attempt=ready.attempt)
            desk.done(decision.task)
            return
        arm = desk.fleet.arm(arm_id)
        desk.fleet.reserve(arm, (ready.task_id, ready.attempt), now=desk.clock.monotonic())
        reason = "dispatched before the queue was read again"
        self._announce(Decision(decision.task, arm, reason, []), answer.seq, now)
