"""The arms as the scheduler sees them: directory, heartbeats, and what is in flight.

Free slots are derived: the slots of live, ready instances minus the attempts in flight.
Times are monotonic seconds.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from octarm.models.commands import bundle_size
from octarm.models.hot import Heartbeat

if TYPE_CHECKING:
    from octarm.scheduler.domain.groups import Group
    from octarm.scheduler.domain.tasks import QueuedTask

Key = tuple[str, int]  # task id, attempt

BEATS_MISSED: Final = 3
SUSPECT_AFTER_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class ArmFacts:
    """What the directory says about an arm."""

    arm_id: str
    status: str
    capabilities: frozenset[str]
    cost_tier: int
    takes_any: bool = True

    def suits(self, needs: frozenset[str], assigned_arm: str | None) -> bool:
        """Whether it can do what the task needs, and may when the task names nothing."""
        named = bool(needs) or assigned_arm == self.arm_id
        return needs <= self.capabilities and (named or self.takes_any)


@dataclass(slots=True)
class Instance:
    """One process of an arm as it last reported itself."""

    slots: int
    ready: bool
    alive_until: float
    running: frozenset[Key]


@dataclass(slots=True)
class Flight:
    """An attempt that was sent to an arm and has not ended.

    `task` is what was sent, until the arm reports it.
    """

    arm: "Arm"
    since: float
    dispatch_seq: int = 0
    task: "QueuedTask | None" = None


class Arm:
    """A pool of equal instances; unknown to the directory while `facts` is None.

    `bundle` is the most tasks that may travel to it in one message.
    """

    __slots__ = (
        "arm_id",
        "bundle",
        "facts",
        "flights",
        "instances",
        "paused_until",
        "slots",
        "waiters",
    )

    def __init__(self, arm_id: str) -> None:
        self.arm_id = arm_id
        self.facts: ArmFacts | None = None
        self.instances: dict[str, Instance] = {}
        self.flights: dict[Key, Flight] = {}
        self.slots = 0
        self.bundle = 1
        self.paused_until = 0.0
        self.waiters: set[Group] = set()

    @property
    def free(self) -> int:
        """Slots that can take work now; never negative."""
        return 0 if self.paused_until else max(self.slots - len(self.flights), 0)

    def runs(self, key: Key) -> bool:
        """Whether a live instance reports this attempt as running."""
        return any(key in instance.running for instance in self.instances.values())


class Fleet:
    """All arms; `epoch` grows when the directory changes, `freed` gathers arms with new room."""

    def __init__(self) -> None:
        self.arms: dict[str, Arm] = {}
        self.epoch = 0
        self.freed: set[Arm] = set()
        self._flights: dict[Key, Flight] = {}
        self._paused: set[Arm] = set()

    def arm(self, arm_id: str) -> Arm:
        """Give the arm of that id, made when nothing was known of it."""
        found = self.arms.get(arm_id)
        if found is None:
            found = self.arms[arm_id] = Arm(arm_id)
        return found

    def learn(self, facts: ArmFacts) -> None:
        """Take what the directory says about one arm."""
        arm = self.arm(facts.arm_id)
        if arm.facts != facts:
            arm.facts = facts
            self.epoch += 1

    def unlearn(self, arm_id: str) -> None:
        """Take that the directory has lost the arm; what it runs stays in flight."""
        arm = self.arms.get(arm_id)
        if arm is not None and arm.facts is not None:
            arm.facts = None
            self.epoch += 1

    def relearn(self, listed: Collection[ArmFacts]) -> None:
        """Take the whole directory: arms that it does not name are gone."""
        named = {facts.arm_id for facts in listed}
        for arm_id in self.arms.keys() - named:
            self.unlearn(arm_id)
        for facts in listed:
            self.learn(facts)

    def beat(self, beat: Heartbeat, *, now: float) -> None:
        """Take a heartbeat: slots, and what has begun or ended since the last one."""
        arm = self.arm(beat.arm_id)
        ready = beat.status == "ready"
        running = frozenset([(it.task_id, it.attempt) for it in beat.running])
        before = arm.instances.get(beat.instance_id)
        arm.instances[beat.instance_id] = Instance(
            beat.slots, ready, now + BEATS_MISSED * beat.interval_s, running
        )
        # The slots of a draining instance do not count, so neither does its work.
        ended = running if not ready else before.running - running if before else ()
        for key in ended:
            self.release(*key)
        if ready:
            for key in running:
                self.reserve(arm, key, now=now).task = None
        self._count_slots(arm)

    def land(self, *, now: float) -> None:
        """Forget what is in flight but for what live instances report as running."""
        for key in list(self._flights):
            self.release(*key)
        for arm in self.arms.values():
            for instance in arm.instances.values():
                for key in instance.running if instance.ready else ():
                    self.reserve(arm, key, now=now)

    def expire(self, now: float) -> list[str]:
        """Drop instances that have missed their beats, with the work only they reported.

        An arm that is neither registered, nor beats, nor runs anything is forgotten.
        """
        gone = []
        for arm in list(self.arms.values()):
            for instance_id, instance in list(arm.instances.items()):
                if instance.alive_until <= now:
                    gone.append(f"{arm.arm_id}/{instance_id}")
                    del arm.instances[instance_id]
                    for key in instance.running:
                        self.release(*key)
                    self._count_slots(arm)
            if arm.facts is None and not arm.instances and not arm.flights:
                del self.arms[arm.arm_id]
        return gone

    def next_expiry(self) -> float | None:
        """When `expire` has something to do, unless another beat comes first."""
        times = (it.alive_until for arm in self.arms.values() for it in arm.instances.values())
        return min(times, default=None)

    def reserve(self, arm: Arm, key: Key, *, now: float) -> Flight:
        """Count an attempt against the arm's slots; again is the same."""
        flight = self._flights.get(key)
        if flight is not None:
            if flight.arm is arm:
                return flight
            self.release(*key)
        flight = Flight(arm, now)
        self._flights[key] = arm.flights[key] = flight
        return flight

    def release(self, task_id: str, attempt: int) -> bool:
        """Take an attempt off its arm; false when it was not in flight."""
        key = (task_id, attempt)
        flight = self._flights.pop(key, None)
        if flight is None:
            return False
        arm = flight.arm
        del arm.flights[key]
        self.freed.add(arm)
        return True

    def flight(self, task_id: str, attempt: int) -> Flight | None:
        """Give the attempt in flight, if it is."""
        return self._flights.get((task_id, attempt))

    def suspects(self, arm_id: str, *, now: float) -> list[Key]:
        """Attempts that should have been reported by now and are not."""
        arm = self.arm(arm_id)
        return [
            key
            for key, flight in arm.flights.items()
            if now - flight.since > SUSPECT_AFTER_S and not arm.runs(key)
        ]

    def pause(self, arm: Arm, *, until: float) -> None:
        """Place nothing on the arm until then, or until `resume` is called later."""
        arm.paused_until = until
        self._paused.add(arm)

    def resume(self, now: float) -> float | None:
        """End the pauses that are over; say when the next one will be."""
        for arm in [arm for arm in self._paused if arm.paused_until <= now]:
            arm.paused_until = 0.0
            self._paused.discard(arm)
            self.freed.add(arm)
        return min((arm.paused_until for arm in self._paused), default=None)

    def freed_waiters(self) -> Iterable["Group"]:
        """Give, once, the groups that waited for an arm that has room now."""
        waiters: set[Group] = set()
        for arm in self.freed:
            waiters |= arm.waiters
            arm.waiters.clear()
        self.freed.clear()
        return waiters

    def forget_waiters(self) -> None:
        """Forget the groups of a queue that is no more: its tasks must not be placed."""
        for arm in self.arms.values():
            arm.waiters.clear()

    def _count_slots(self, arm: Arm) -> None:
        ready = [it.slots for it in arm.instances.values() if it.ready]
        slots, smallest = sum(ready), min(filter(None, ready), default=0)
        if slots > arm.slots:
            self.freed.add(arm)
        arm.slots = slots
        arm.bundle = bundle_size(smallest)
