"""The arms as the scheduler sees them: directory, heartbeats, and what is in flight.

Free slots are derived: the slots of live, ready instances minus the attempts in flight.
Times are monotonic seconds.
"""

from collections.abc import Collection
from dataclasses import dataclass
from math import inf
from typing import Final

from octarm.models.commands import MAX_BATCH, bundle_size
from octarm.models.hot import Heartbeat
from octarm.models.scalars import MAX_SLOTS
from octarm.policies.context import ArmFacts
from octarm.policies.queue.arm import Arm
from octarm.policies.queue.arms import Arms
from octarm.policies.queue.headroom import Headroom, Key
from octarm.policies.queue.queue import Queue
from octarm.policies.queue.tasks import Task
from octarm.scheduler.domain.tasks import QueuedTask

BEATS_MISSED: Final = 3
SUSPECT_AFTER_S: Final = 15.0


@dataclass(slots=True)
class Instance:
    """One process of an arm as it last reported itself; `running` is what, in how many slots."""

    slots: int
    ready: bool
    alive_until: float
    running: dict[Key, int]
    load: float = 0.0
    latency_s: float = 0.0
    success: float = 1.0
    used: int = 0
    beat_at: float = 0.0
    used_at: float | None = None
    runs: int = 0

    def use(self, runs: int, *, now: float) -> None:
        """Note that it has done something: `runs` attempts that were not known before."""
        self.used_at = now
        self.runs += runs


@dataclass(slots=True)
class Flight:
    """An attempt that was sent to an arm and has not ended.

    `task` is what was sent, until the arm reports it.
    """

    pool: "Pool"
    since: float
    slots: int = 1
    dispatch_seq: int = 0
    task: QueuedTask | None = None


class Pool:
    """The equal instances of an arm, and what is with them; `listed` by the directory or not.

    `bundle` is the most tasks that may travel to it in one message, `paused_until` when it may
    be sent some again.
    """

    __slots__ = ("arm", "arm_id", "bundle", "flights", "instances", "listed", "paused_until")

    def __init__(self, arm_id: str) -> None:
        self.arm_id = arm_id
        self.arm = Arm(ArmFacts(arm_id, status="offline"))
        self.listed = False
        self.instances: dict[str, Instance] = {}
        self.flights: dict[Key, Flight] = {}
        self.bundle = 1
        self.paused_until = 0.0

    @property
    def slots(self) -> int:
        """Slots of its live, ready instances."""
        return self.arm.slots

    @property
    def free(self) -> int:
        """Slots that can take work now; never negative."""
        return self.arm.free

    def runs(self, key: Key) -> bool:
        """Whether a live instance reports this attempt as running."""
        return any(key in instance.running for instance in self.instances.values())


class Fleet:
    """All pools; what placing needs to know of them is kept in `arms`.

    `queue` counts what was placed from it; what others placed is counted on the arm alone.
    """

    def __init__(self, arms: Arms, queue: Queue) -> None:
        self.arms = arms
        self.queue = queue
        self.pools: dict[str, Pool] = {}
        self.headroom = Headroom(arms)
        self._flights: dict[Key, Flight] = {}
        self._paused: dict[Pool, None] = {}

    def pool(self, arm_id: str) -> Pool:
        """Give the pool of that arm, made when nothing was known of it."""
        found = self.pools.get(arm_id)
        if found is None:
            found = self.pools[arm_id] = Pool(arm_id)
        return found

    def learn(self, facts: ArmFacts, *, at_s: float) -> None:
        """Take what the directory says about one arm, in Unix seconds."""
        pool = self.pool(facts.id)
        self.arms.learn(facts, now=at_s, before=pool.arm)
        pool.listed = True

    def unlearn(self, arm_id: str) -> None:
        """Take that the directory has lost the arm; what it runs stays in flight."""
        pool = self.pools.get(arm_id)
        if pool is not None and pool.listed:
            pool.listed = False
            self._end_pause(pool)
            self.arms.unlearn(arm_id)

    def relearn(self, listed: Collection[ArmFacts], *, at_s: float) -> None:
        """Take the whole directory: arms that it does not name are gone."""
        named = {facts.id for facts in listed}
        for arm_id in [arm_id for arm_id in self.pools if arm_id not in named]:
            self.unlearn(arm_id)
        for facts in listed:
            self.learn(facts, at_s=at_s)

    def beat(self, beat: Heartbeat, *, now: float) -> None:
        """Take a heartbeat: slots, and what has begun or ended since the last one."""
        pool = self.pool(beat.arm_id)
        ready = beat.status == "ready"
        running = {(it.task_id, it.attempt): it.slots for it in beat.running}
        before = pool.instances.get(beat.instance_id)
        pool.instances[beat.instance_id] = Instance(
            beat.slots,
            ready,
            now + BEATS_MISSED * beat.interval_s,
            running,
            beat.load,
            beat.avg_latency_ms / 1000,
            1 - beat.error_rate,
            sum(running.values()),
            now,
            before.used_at if before else None,
            before.runs if before else 0,
        )
        if running or (before and before.running):
            fresh = running.keys() - before.running.keys() if before else running
            pool.instances[beat.instance_id].use(len(fresh), now=now)
        # The slots of a draining instance do not count, so neither does its work.
        ended = running if not ready else before.running if before else ()
        for key in ended:
            if not (ready and key in running):
                self.release(*key)
        if ready:
            for key, slots in running.items():
                self.reserve(pool, key, now=now, slots=slots).task = None
        self._report(pool)

    def land(self, *, now: float) -> None:
        """Forget what is in flight but for what live instances report as running."""
        for key in list(self._flights):
            self.release(*key)
        for pool in self.pools.values():
            for instance in pool.instances.values():
                for key, slots in instance.running.items() if instance.ready else ():
                    self.reserve(pool, key, now=now, slots=slots)

    def expire(self, now: float) -> list[str]:
        """Drop instances that have missed their beats, with the work only they reported.

        An arm that is neither registered, nor beats, nor runs anything is forgotten.
        """
        gone = []
        for pool in list(self.pools.values()):
            for instance_id, instance in list(pool.instances.items()):
                if instance.alive_until <= now:
                    gone.append(f"{pool.arm_id}/{instance_id}")
                    del pool.instances[instance_id]
                    for key in instance.running:
                        self.release(*key)
                    self._report(pool)
            if not (pool.listed or pool.instances or pool.flights):
                self._end_pause(pool)
                del self.pools[pool.arm_id]
        return gone

    def next_expiry(self) -> float | None:
        """When `expire` has something to do, unless another beat comes first."""
        times = (it.alive_until for pool in self.pools.values() for it in pool.instances.values())
        return min(times, default=None)

    def placed(self, arm_id: str, task: QueuedTask, *, now: float) -> Pool:
        """Note an attempt that the queue has just placed, and counted, itself."""
        pool = self.pools[arm_id]
        key = task.task_id, task.attempt
        self._flights[key] = pool.flights[key] = Flight(pool, now, task.slots)
        if pool.arm.governor is not None:
            placed = self.queue.flight(*key)
            self.headroom.placed(key, 0 if placed is None else placed.tokens)
        return pool

    def reserve(self, pool: Pool, key: Key, *, now: float, slots: int = 1) -> Flight:
        """Count an attempt against the arm's slots; again is the same."""
        flight = self._flights.get(key)
        if flight is not None:
            if flight.pool is pool:
                return flight
            self.release(*key)
        self.arms.hold(pool.arm, slots)
        flight = self._flights[key] = pool.flights[key] = Flight(pool, now, slots)
        return flight

    def adopt(self, arm_id: str, task: Task, *, now: float, at_s: float) -> None:
        """Count an attempt that an earlier leader has placed; `at_s` is in Unix seconds."""
        key = task.task_id, task.attempt
        flight = self.reserve(self.pool(arm_id), key, now=now, slots=task.slots)
        self.queue.adopt(task, flight.pool.arm, now=at_s)

    def release(self, task_id: str, attempt: int) -> bool:
        """Take an attempt off its arm; false when it was not in flight."""
        key = (task_id, attempt)
        flight = self._flights.pop(key, None)
        if flight is None:
            return False
        del flight.pool.flights[key]
        if len(self.headroom):
            self.headroom.forget(key)
        if self.queue.land(task_id, attempt) is None:
            self.arms.give_back(flight.pool.arm, flight.slots)
        return True

    def flight(self, task_id: str, attempt: int) -> Flight | None:
        """Give the attempt in flight, if it is."""
        return self._flights.get((task_id, attempt))

    def suspects(self, arm_id: str, *, now: float) -> list[Key]:
        """Attempts that should have been reported by now and are not."""
        pool = self.pool(arm_id)
        return [
            key
            for key, flight in pool.flights.items()
            if now - flight.since > SUSPECT_AFTER_S and not pool.runs(key)
        ]

    def pause(self, pool: Pool, *, until: float) -> None:
        """Place nothing on the arm until then, or until `resume` is called later."""
        pool.paused_until = max(pool.paused_until, until)
        self._paused[pool] = None
        # Its end is judged here, by a clock that is never set.
        self.arms.pause(pool.arm, until=inf)

    def resume(self, now: float) -> float | None:
        """End the pauses that are over; say when the next one will be."""
        for pool in [pool for pool in self._paused if pool.paused_until <= now]:
            self._end_pause(pool)
        return min((pool.paused_until for pool in self._paused), default=None)

    def serve(self, queue: Queue) -> None:
        """Count for another queue; what was placed from the one before stays on the arms."""
        self.queue = queue

    def _end_pause(self, pool: Pool) -> None:
        pool.paused_until = 0.0
        self._paused.pop(pool, None)
        self.arms.end_pause(pool.arm)

    def _report(self, pool: Pool) -> None:
        ready = [it for it in pool.instances.values() if it.ready]
        least = min([it.slots for it in ready if it.slots], default=0)
        # Several instances may have room together and none of them enough of its own.
        gaps = [it.slots - it.used for it in ready]
        # Nobody else could take a part of what goes to the only instance.
        pool.bundle = bundle_size(least) if len(ready) > 1 else min(max(least, 1), MAX_BATCH)
        count = len(ready) or 1
        self.arms.report(
            pool.arm,
            slots=sum([it.slots for it in ready]),
            largest=max([it.slots for it in ready], default=0),
            widest=max(*gaps, 0) if len(ready) > 1 else MAX_SLOTS,
            load=sum([it.load for it in ready]) / count,
            latency_s=sum([it.latency_s for it in ready]) / count,
            success=sum([it.success for it in ready]) / count if ready else 1.0,
        )
