"""What others say about arms and attempts: heartbeats, results, ends of tasks."""

from dataclasses import dataclass
from typing import Annotated, Final

from msgspec import Meta, Struct

from octarm.common.telemetry import get_logger
from octarm.models.hot import Heartbeat, ResultKey
from octarm.models.hot_types import TaskId
from octarm.scheduler.domain.fleet import Key
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
        if fleet.freed:
            self.desk.poke()
        return self.desk.leading and bool(fleet.suspects(beat.arm_id, now=now))


@dataclass(frozen=True, slots=True)
class FreeSlot:
    """An attempt's result came: its slot is free."""

    desk: Desk

    def __call__(self, result: ResultKey) -> None:
        """Free it; again does nothing."""
        if self.desk.fleet.release(result.task_id, result.attempt):
            self.desk.poke()


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


@dataclass(frozen=True, slots=True)
class SweepFlights:
    """Drop attempts that no instance reports and that do not wait in DISPATCH either."""

    desk: Desk
    dispatched: Dispatched

    async def __call__(self, arm_id: str) -> list[Key]:
        """Sweep one arm; gives what was dropped.

        Raises:
            Unavailable: DISPATCH cannot be looked into now.
        """
        below = await self.dispatched.started_below(arm_id)
        dropped = []
        for key in self.desk.fleet.suspects(arm_id, now=self.desk.clock.monotonic()):
            flight = self.desk.fleet.flight(*key)
            if flight is not None and (below is None or flight.dispatch_seq < below):
                self.desk.fleet.release(*key)
                dropped.append(key)
        if dropped:
            log.info("flights_dropped", arm_id=arm_id, count=len(dropped))
            self.desk.poke()
        return dropped
