"""All lanes, awake or asleep, and what wakes whom."""

from heapq import heappop, heappush
from itertools import count
from typing import Final

from octarm.policies.builtin.policy import Builtin
from octarm.policies.queue.arms import Arms
from octarm.policies.queue.groups import Group
from octarm.policies.queue.lanes import Blocker, Lane, LaneKey, PlainKey
from octarm.policies.queue.limits import Limits
from octarm.policies.queue.orders import Order
from octarm.policies.queue.shares import Shares
from octarm.policies.queue.tasks import Task

# A bucket counts as full within rounding before its time: whoever waits for it has to be asleep
# no longer than that. To look too early does no harm.
ROUNDING_S: Final = 1e-5
_serial = count()


class Board:
    """Only lanes in `awake` are looked at by a cycle; the others sleep at what blocks them."""

    def __init__(
        self,
        policy: Builtin,
        arms: Arms,
        shares: Shares,
        limits: Limits,
        *,
        patience_s: float,
    ) -> None:
        self.policy = policy
        self.arms = arms
        self.shares = shares
        self.limits = limits
        self.patience_s = patience_s
        self.awake = self.order()
        self._lanes: dict[LaneKey, Lane] = {}
        self._plain: dict[PlainKey, Lane] = {}
        self._all_alike = not (policy.fair or limits.rules)
        self._touched: dict[Blocker, None] = {}
        self._timers: list[tuple[float, int, Blocker]] = []
        self._epoch = arms.epoch

    def lanes(self) -> list[Lane]:
        """Give the lanes with tasks."""
        return list(self._lanes.values())

    def enter(self, task: Task, *, now: float) -> None:
        """Put a task into its lane; a lane whose first task it is must be looked at again."""
        if self._all_alike:
            plain = task.needs, task.assigned_arm, task.slots, task.tier
            lane = self._plain.get(plain)
            if lane is None:
                lane = self._plain[plain] = self._open(task, now=now)
                lane.plain = plain
        else:
            lane = self._open(task, now=now)
        task.lane = lane
        lane.push(task.rank, task)
        if lane.path is not None:
            self.shares.joined(lane.path)
        if lane.first() is task:
            self._stir(lane)

    def _open(self, task: Task, *, now: float) -> Lane:
        group = self.arms.groups.of((task.needs, task.assigned_arm, task.slots), self.order)
        limits = self.limits.of(task, self.order, now=now)
        path = self.shares.open(task.tenant, task.session) if self.policy.fair else None
        key = group, limits, task.tier, path
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(key, since=now)
            for blocker in (group, *limits):
                blocker.lanes += 1
        return lane

    def leave(self, task: Task) -> None:
        """Take a task out of its lane."""
        lane = task.lane
        assert lane is not None, "it waits"
        task.lane = None
        lane.live -= 1
        if lane.path is not None:
            self.shares.left(lane.path)
        if lane.baton is not None and (blocker := lane.drop_baton()) is not None:
            # What is first in the lane now may come after others that sleep there.
            self.touch(blocker)
        if not lane.live:
            self._close(lane)

    def sleep(self, lane: Lane, blocker: Blocker, *, now: float) -> None:
        """Let a lane sleep until what blocks it has room.

        A lane that was woken there before, and has not had its turn yet, sleeps again: by the
        time that there is room, another may be the best.
        """
        holder = blocker.baton
        if holder is not None and holder is not lane:
            holder.drop_baton()
            self._rest(holder, blocker)
        self._rest(lane, blocker)
        self._look_again(blocker, lane, now)

    def touch(self, blocker: Blocker) -> None:
        """Note that something may have room."""
        if blocker.asleep:
            self._touched[blocker] = None

    def wake(self, now: float) -> None:
        """Wake the best lane of everything that has room again."""
        self._gather()
        touched = self._touched
        while touched:
            blocker, _ = touched.popitem()
            if not blocker.asleep or blocker.baton is not None:
                continue
            lane = blocker.waiting.first(now)
            assert lane is not None, "one sleeps here"
            if blocker.has_room(now):
                lane.baton, blocker.baton = blocker, lane
                self._stir(lane)
            else:
                self._look_again(blocker, lane, now)

    def stirred(self) -> bool:
        """Whether `wake` has anything to do."""
        arms = self.arms
        return bool(self._touched or arms.freed) or self._epoch != arms.epoch

    def wake_all(self, now: float) -> None:
        """Wake everybody who waits for something that has room: a script sees them all."""
        self._gather()
        for lane in self.awake.lanes():
            if (blocker := lane.drop_baton()) is not None:
                self.touch(blocker)
        for blocker in self._touched:
            sleepers = blocker.waiting.lanes()
            if blocker.has_room(now):
                for lane in sleepers:
                    self._stir(lane)
            elif sleepers:
                self._look_again(blocker, sleepers[0], now)
        self._touched.clear()

    def tick(self, now: float) -> None:
        """Look again at what was to be looked at by now."""
        timers, now = self._timers, now + ROUNDING_S
        while timers and timers[0][0] <= now:
            _, _, blocker = heappop(timers)
            blocker.timer_at = None
            if blocker.asleep and isinstance(blocker, Group):
                blocker.reserve()
            self.touch(blocker)

    def next_timer(self) -> float | None:
        """Say when `tick` next has something to do."""
        return self._timers[0][0] if self._timers else None

    def use(self, policy: Builtin) -> None:
        """Start afresh with another policy; no task may be in a lane."""
        self.policy = policy
        self._all_alike = not (policy.fair or self.limits.rules)
        self.arms.prefer_by(policy.prefer, policy.fit)
        self.limits.renew(self.order)
        self.awake, self._touched, self._timers = self.order(), {}, []

    def _gather(self) -> None:
        """Touch the groups that a change of the arms may have unblocked."""
        arms = self.arms
        if self._epoch != arms.epoch:
            self._epoch = arms.epoch
            for group in arms.groups.waiting():
                self.touch(group)
                self.touch(group.public)
        if arms.freed:
            for arm in arms.freed:
                for group in arm.groups:
                    self.touch(group)
            arms.freed.clear()

    def _look_again(self, blocker: Blocker, lane: Lane, now: float) -> None:
        at = blocker.look_again_at(lane.first(), self.patience_s, now=now)
        if at is not None and (blocker.timer_at is None or at < blocker.timer_at):
            blocker.timer_at = at
            heappush(self._timers, (at, next(_serial), blocker))

    def order(self) -> Order:
        """Make an order of who waits for one thing."""
        return Order(fair=self.policy.fair, patience_s=self.patience_s)

    def _rest(self, lane: Lane, blocker: Blocker) -> None:
        lane.asleep_at = blocker
        blocker.asleep += 1
        blocker.waiting.add(lane)

    def _stir(self, lane: Lane) -> None:
        if lane.asleep_at is not None:
            lane.asleep_at.asleep -= 1
            lane.asleep_at = None
        self.awake.add(lane)

    def _close(self, lane: Lane) -> None:
        lane.order = None
        if lane.asleep_at is not None:
            lane.asleep_at.asleep -= 1
            lane.asleep_at = None
        group = lane.group
        group.lanes -= 1
        for limit in lane.limits:
            limit.lanes -= 1
        if not group.lanes:
            self.arms.unreserve(group.reserved)
        del self._lanes[lane.key]
        if lane.plain is not None:
            del self._plain[lane.plain]
