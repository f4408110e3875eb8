"""What others say about arms and attempts: heartbeats, results, ends of tasks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Protocol

from msgspec import Meta, Struct

from octarm.common.telemetry import get_logger
from octarm.models.hot import Heartbeat, ResultKey
from octarm.models.hot_types import TaskId
from octarm.models.queries import Outcome
from octarm.models.states import TaskState
from octarm.policies.queue.headroom import LONGEST_S, Key, refused_for_s
from octarm.scheduler.domain.fleet import Flight
from octarm.scheduler.domain.tasks import Hold, QueuedTask, gone
from octarm.scheduler.usecases.desk import Desk
from octarm.scheduler.usecases.ports import Dispatched

LAST_ATTEMPT: Final = 1_000_000

log = get_logger()


class Ending(Struct, frozen=True):
    """The part of a task event that matters here: after it an attempt holds no slot.

    `retried` names the next attempt. A completed one has left its arm by its result already.
    """

    type: str
    task_id: TaskId
    attempt: Annotated[int, Meta(ge=0, le=LAST_ATTEMPT)]


class Stopped(Struct, frozen=True):
    """Events of kind `stopped` that travel together."""

    events: list[Ending]


@dataclass(frozen=True, slots=True)
class HearHeartbeat:
    """Take a heartbeat; gives true when attempts should have been reported and were not."""

    desk: Desk

    def __call__(self, beat: Heartbeat) -> bool:
        """Take it; doing it twice changes nothing."""
        now = self.desk.clock.monotonic()
        fleet = self.desk.fleet
        fleet.beat(beat, now=now)
        if beat.provider_wait_s:
            self._stay_away(beat)
        if fleet.arms.freed:
            self.desk.poke()
        return self.desk.leading and bool(fleet.suspects(beat.arm_id, now=now))

    def _stay_away(self, beat: Heartbeat) -> None:
        """Keep away from its provider, or from the arm alone when it names none."""
        desk, fleet = self.desk, self.desk.fleet
        pool, wait_s = fleet.pool(beat.arm_id), min(beat.provider_wait_s, LONGEST_S)
        if not fleet.headroom.stay_away(pool.arm, wait_s, now=desk.now_s()) and pool.listed:
            fleet.pause(pool, until=desk.clock.monotonic() + wait_s)
        desk.poke()


@dataclass(frozen=True, slots=True)
class FreeSlot:
    """An attempt's result came: its slot is free, and it says what a provider was asked for."""

    desk: Desk

    def __call__(self, result: ResultKey) -> None:
        """Free it; again does nothing."""
        if len(self.desk.fleet.headroom):
            self._settle(result)
        if self.desk.seen:
            self._show(result)
        if self.desk.fleet.release(result.task_id, result.attempt):
            self.desk.poke()

    def _show(self, result: ResultKey) -> None:
        """Let scripts see of it what they may."""
        desk = self.desk
        flight, now = desk.fleet.flight(result.task_id, result.attempt), desk.clock.monotonic()
        if flight is None:
            return
        placed = desk.queue.flight(result.task_id, result.attempt)
        desk.recent.ended(result, placed.task if placed else None, now=now)
        instance = flight.pool.instances.get(result.instance_id)
        if instance is not None:
            seen_running = (result.task_id, result.attempt) in instance.running
            instance.use(0 if seen_running else 1, now=now)

    def _settle(self, result: ResultKey) -> None:
        fleet, key, now = self.desk.fleet, (result.task_id, result.attempt), self.desk.now_s()
        flight = fleet.flight(*key)
        if flight is None:
            return
        arm, tokens, calls = flight.pool.arm, result.tokens_used, result.llm_calls
        if (retry_after_s := refused_for_s(result.error)) is not None:
            # Before its slot is free, or something would be placed on it.
            fleet.headroom.stay_away(arm, retry_after_s, now=now)
        fleet.headroom.ended(key, arm, tokens=tokens, calls=calls, now=now)


class Spend(Struct, frozen=True):
    """The part of a reported call that matters here."""

    task_id: TaskId
    attempt: Annotated[int, Meta(ge=0, le=LAST_ATTEMPT)]
    tokens: Annotated[int, Meta(ge=0)] = 0
    llm_calls: Annotated[int, Meta(ge=0)] = 0


class Spends(Struct, frozen=True):
    """Calls that were reported together."""

    calls: list[Spend]


@dataclass(frozen=True, slots=True)
class CountSpend:
    """Calls were made by attempts that go on: their providers have granted them.

    What is heard twice is put right when the attempt ends.
    """

    desk: Desk

    def __call__(self, spends: Spends) -> None:
        """Count them."""
        fleet, now = self.desk.fleet, self.desk.now_s()
        for it in spends.calls:
            key = (it.task_id, it.attempt)
            if (flight := fleet.flight(*key)) is not None:
                arm = flight.pool.arm
                fleet.headroom.spent(key, arm, tokens=it.tokens, calls=it.llm_calls, now=now)


@dataclass(frozen=True, slots=True)
class EndAttempts:
    """A task ended or an attempt was given up: drop it from the view and off its arm."""

    desk: Desk

    def __call__(self, event: Ending) -> None:
        """Drop it; again does nothing."""
        retried = event.type == "task.retried"
        last = event.attempt - 1 if retried else event.attempt
        # Older attempts have been taken off by the event that ended each of them.
        freed = [self.desk.fleet.release(event.task_id, last - back) for back in (0, 1)]
        waiting = self.desk.queue.call_off(event.task_id, last if retried else LAST_ATTEMPT)
        if waiting is not None:
            self.desk.done(waiting)
        if any(freed):
            self.desk.poke()


class Ledger(Protocol):
    """The part of the orchestrator's client that is needed."""

    async def states(self, tenant: str, task_ids: Sequence[str]) -> dict[str, Outcome]:
        """Give the outcome of each task that exists, by id."""
        ...


@dataclass(frozen=True, slots=True)
class SweepFlights:
    """Drop attempts that no instance reports and that do not wait in DISPATCH either.

    Of those that the ledger has not seen dispatched, DISPATCH has lost the run command before
    anybody had read it: nobody else looks after them, so they wait to be placed again.
    """

    desk: Desk
    dispatched: Dispatched
    ledger: Ledger

    async def __call__(self, arm_id: str) -> list[Key]:
        """Sweep one arm; gives what was dropped.

        Raises:
            Unavailable: DISPATCH cannot be looked into now, or the ledger does not answer.
        """
        fleet = self.desk.fleet
        below = await self.dispatched.started_below(arm_id)
        suspects = {
            key: flight
            for key in fleet.suspects(arm_id, now=self.desk.clock.monotonic())
            if (flight := fleet.flight(*key)) and (below is None or flight.dispatch_seq < below)
        }
        lost = await self._lost([it for it in suspects.values() if it.task is not None])
        dropped = [key for key, flight in suspects.items() if fleet.flight(*key) is flight]
        for key in dropped:
            fleet.release(*key)
        for task in lost if self.desk.leading else []:
            if task.key in dropped:
                again, now = Hold(0, 1, gone), self.desk.now_s()
                self.desk.admit(task.ready, again, seen_ns=task.seen_ns, now=now)
        if dropped:
            log.info("flights_dropped", arm_id=arm_id, count=len(dropped), again=len(lost))
            self.desk.poke()
        return dropped

    async def _lost(self, flights: list[Flight]) -> list[QueuedTask]:
        """Find those that were dispatched and that the ledger, up to date, knows nothing of."""
        if not flights:
            return []
        recorded = await self.dispatched.recorded()
        by_tenant: dict[str, list[QueuedTask]] = {}
        for flight in flights:
            known = recorded.all_of_it or flight.dispatch_seq <= recorded.up_to
            if (task := flight.task) is not None and known:
                by_tenant.setdefault(task.ready.tenant, []).append(task)
        lost: list[QueuedTask] = []
        for tenant, tasks in by_tenant.items():
            found = await self.ledger.states(tenant, [task.task_id for task in tasks])
            lost += [task for task in tasks if _is_queued(task, found.get(task.task_id))]
        return lost


def _is_queued(task: QueuedTask, outcome: Outcome | None) -> bool:
    if outcome is None or outcome.attempt != task.attempt:
        return False
    return outcome.state is TaskState.QUEUED
