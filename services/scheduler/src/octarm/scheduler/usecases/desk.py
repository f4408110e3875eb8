"""The working state of one shard, shared by its use cases on one event loop."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from octarm.common.clock import Clock
from octarm.models.commands import MAX_BATCH
from octarm.models.hot import ReadyTask
from octarm.policies.context import ArmFacts
from octarm.policies.queue.admission import admit_accepted
from octarm.policies.queue.cycle import placeable
from octarm.policies.queue.pace import Pace
from octarm.policies.queue.tasks import BATCH
from octarm.scheduler.domain.fleet import Fleet
from octarm.scheduler.domain.heard import Recent
from octarm.scheduler.domain.queue import ShardQueue
from octarm.scheduler.domain.tasks import Hold, QueuedTask

STALLED_AFTER_S: Final = 30.0
# Dropped for others and not ended by the ledger yet; past that nothing more is read.
MAX_ENDING: Final = 4096


def _nothing() -> None:
    """Nobody waits for room."""


def _always() -> bool:
    return True


@dataclass(slots=True)
class Desk:
    """What waits at one shard, and the fleet it may go to.

    `work` is set when a cycle may have something to do. `holds` are the READY messages that
    are still unacknowledged, by stream sequence. `notes` are what a script said of tasks that
    wait, by id, `policy` is who decided last, `pace` how fast; while `scripted` it may let work
    wait that could be placed, while `seen` a script is shown what ended in `recent` time.
    `dropped` are tasks that made room for others, each with the reason, `ending` the attempts
    that the ledger is to end and has not ended yet.
    """

    shard: int
    capacity: int
    clock: Clock
    queue: ShardQueue
    fleet: Fleet
    holds: dict[int, Hold] = field(default_factory=dict)
    work: asyncio.Event = field(default_factory=asyncio.Event)
    leading: bool = False
    scripted: bool = False
    seen: bool = False
    recent: Recent = field(default_factory=Recent)
    notes: dict[str, str] = field(default_factory=dict)
    policy: str = ""
    pace: Pace = field(default_factory=Pace)
    full: bool = False
    dropped: list[tuple[QueuedTask, str]] = field(default_factory=list)
    ending: set[tuple[str, int]] = field(default_factory=set)
    progress_at: float = 0.0
    more_room: Callable[[], None] = _nothing
    may_place: Callable[[], bool] = _always
    """Whether the lease is held still: false at once after this process stood still for long."""

    def poke(self) -> None:
        """Say that a cycle may have something to do."""
        if not self.work.is_set():
            # Only the first poke counts: a cycle that never comes must not look like progress.
            self.progress_at = max(self.progress_at, self.clock.monotonic())
            self.work.set()

    def clear(self, queue: ShardQueue) -> None:
        """Forget what waits; another leader reads it again."""
        self.queue = queue
        self.fleet.serve(queue)
        self.holds.clear()
        self.notes.clear()
        self.dropped = []
        self.ending.clear()
        self.more_room = _nothing
        self.full = False

    def directory_listed(self, listed: list[ArmFacts]) -> None:
        """Take the whole arm directory."""
        self._directory_changed(lambda at_s: self.fleet.relearn(listed, at_s=at_s))

    def arm_learned(self, facts: ArmFacts) -> None:
        """Take what the directory says about one arm."""
        self._directory_changed(lambda at_s: self.fleet.learn(facts, at_s=at_s))

    def arm_unlearned(self, arm_id: str) -> None:
        """Take that the directory has lost an arm."""
        self._directory_changed(lambda _: self.fleet.unlearn(arm_id))

    def _directory_changed(self, change: Callable[[float], None]) -> None:
        epoch = self.fleet.arms.epoch
        change(self.now_s())
        if self.fleet.arms.epoch != epoch:
            self.poke()

    def now_s(self) -> float:
        """Give the time in Unix seconds, by which tasks wait."""
        return self.clock.now().timestamp()

    def in_flight(self) -> int:
        """Count the attempts that are with arms."""
        return sum(len(pool.flights) for pool in self.fleet.pools.values())

    def room(self) -> int:
        """How many READY messages may be read now, each with up to 64 tasks.

        Batch tasks that wait are as good as room if they may be dropped, but only so many at
        a time: while the ledger is away nobody can be told, and none of them may be forgotten.
        """
        room = self.capacity - len(self.queue)
        if self.queue.rules.full != "reject":
            room += min(self.queue.depth[BATCH], MAX_ENDING - len(self.ending))
        free = max(room, 0) // MAX_BATCH
        self.full = not free
        return free

    def healthy(self) -> bool:
        """Whether work that could be placed is being placed; a standby has none."""
        if not self.leading or (self.scripted and not self.work.is_set()):
            return True
        if not placeable(self.queue, now=self.now_s()):
            return True
        return self.clock.monotonic() - self.progress_at < STALLED_AFTER_S

    def done(self, task: QueuedTask) -> None:
        """Count a task off its READY message, which is acknowledged with its last one."""
        self.finish(task.hold)

    def finish(self, hold: Hold) -> None:
        """Count one task off a READY message."""
        if hold.task_done() and self.holds.get(hold.seq) is hold:
            del self.holds[hold.seq]

    def admit(self, ready: ReadyTask, hold: Hold, *, seen_ns: int, now: float) -> None:
        """Let a task wait, unless its attempt was called off, is superseded or under way.

        `now` is in Unix seconds by this desk's clock.
        """
        known = self.queue.get(ready.task_id)
        if (
            self.fleet.flight(ready.task_id, ready.attempt) is not None
            or self.queue.ended(ready.task_id, ready.attempt)
            or (ready.task_id, ready.attempt) in self.ending
            or (known is not None and known.attempt > ready.attempt)
        ):
            self.finish(hold)
            return
        if known is not None:
            # A copy of the same attempt takes the place of the older one, as a newer attempt does.
            self.queue.remove(known)
            self.done(known)
        task = QueuedTask(ready, hold, seen_ns=seen_ns)
        if len(self.queue) < self.capacity:
            self.queue.add(task, now=now)
        elif isinstance((it := admit_accepted(self.queue, task, now=now)).dropped, QueuedTask):
            self.ending.add(it.dropped.key)
            self.dropped.append((it.dropped, it.reason))
