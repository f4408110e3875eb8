"""What waits at one shard, and who is in flight."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from typing import Final, Literal

from msgspec import Struct

from octarm.policies.builtin.policy import Builtin
from octarm.policies.queue.arm import Arm
from octarm.policies.queue.arms import Arms
from octarm.policies.queue.board import Board
from octarm.policies.queue.heaps import BatchHeap, LazyHeap
from octarm.policies.queue.limits import Limit, Limits
from octarm.policies.queue.orders import served
from octarm.policies.queue.shares import Shares
from octarm.policies.queue.spare import Spare
from octarm.policies.queue.tasks import BATCH, INTERACTIVE, Task

AVERAGE_AGAIN_S: Final = 1.0
FullPolicy = Literal["reject", "drop_lru", "shed_batch"]


@dataclass(frozen=True, slots=True)
class Rules:
    """How much may wait, and for how long before something is done about it.

    Each `ageing_s` seconds of waiting count for one step of priority. A task is taken out
    `overdue_after_s` after its deadline. Where shares count, `keep_free` is the share of slots
    that is kept for tenants that want less than theirs, `catch_up` how many times all slots a
    tenant that was idle may have ahead of others; each of `shards` has its part of the tenants'
    work.
    """

    capacity: int = 100_000
    full: FullPolicy = "reject"
    promote_after_s: float = 300.0
    patience_s: float = 300.0
    ageing_s: float = 60.0
    overdue_after_s: float = 0.0
    keep_free: float = 0.0
    catch_up: float = 0.0
    shards: int = 1


class Flight(Struct, frozen=True):
    """An attempt that was placed and has not ended; what it holds is given back then.

    `tokens` is what it was thought to need of a provider.
    """

    task: Task
    arm: Arm
    limits: tuple[Limit, ...]
    tokens: int = 0


class Queue:
    """Waiting tasks by id, on a board of lanes in the order of the policy.

    Times are Unix seconds. The caller sees to it that an id waits only once.
    """

    def __init__(
        self,
        policy: Builtin,
        arms: Arms,
        *,
        rules: Rules | None = None,
        shares: Shares | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.arms = arms
        self.rules = rules or Rules()
        arms.spare = Spare(self.rules.keep_free, part=1 / self.rules.shards)
        self.board = Board(
            policy,
            arms,
            Shares() if shares is None else shares,
            Limits() if limits is None else limits,
            patience_s=self.rules.patience_s,
        )
        self.running: Counter[str] = Counter()
        self.waiting: Counter[str] = Counter()
        self.depth = [0, 0]
        self.oldest_batch = BatchHeap()
        self.least_batch = BatchHeap()
        self._tasks: dict[str, Task] = {}
        self._deadlines = LazyHeap()
        self._averaged_at = -inf
        self._average_wait_s = 0.0
        self._flights: dict[tuple[str, int], Flight] = {}

    @property
    def policy(self) -> Builtin:
        """The policy in use."""
        return self.board.policy

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[Task]:
        return iter(self._tasks.values())

    def get(self, task_id: str) -> Task | None:
        """Give a waiting task."""
        return self._tasks.get(task_id)

    def flight(self, task_id: str, attempt: int) -> Flight | None:
        """Give an attempt that is in flight."""
        return self._flights.get((task_id, attempt))

    def add(self, task: Task, *, now: float) -> None:
        """Let a task wait; `admission.admit` says before whether it may."""
        self._tasks[task.task_id] = task
        self.waiting[task.tenant] += 1
        self.depth[task.tier] += 1
        task.rank = self.policy.rank(task, self.rules.ageing_s)
        self._enter(task, now)
        if task.deadline is not None:
            self._deadlines.push(task.deadline + self.rules.overdue_after_s, task)
        if task.tier == BATCH:
            # By when it is promoted: the time that a timer says must be the time that counts.
            self.oldest_batch.push(task.queued_at + self.rules.promote_after_s, task)
            if self.rules.full == "shed_batch":
                self.least_batch.push(-task.rank, task)

    def remove(self, task: Task) -> None:
        """Take a waiting task out."""
        del self._tasks[task.task_id]
        self.waiting[task.tenant] -= 1
        self.depth[task.tier] -= 1
        self.board.leave(task)
        if task.deadline is not None:
            self._deadlines.forget()
        if task.tier == BATCH:
            self._forget_batch()

    def fly(self, task: Task, arm: Arm, *, now: float) -> None:
        """Place a waiting task on an arm: it leaves, and holds what it needs until it lands."""
        lane = task.lane
        assert lane is not None, "it waits"
        self.running[task.tenant] += 1
        for limit in lane.limits:
            limit.take(now)
        tokens = self.arms.take(arm, task.slots, task.tokens, now=now)
        self._flights[task.task_id, task.attempt] = Flight(task, arm, lane.limits, tokens)
        if arm.reserved is lane.group:
            self.arms.unreserve(arm)
        if lane.path is not None:
            self.board.shares.served(lane.path, task.slots)
            self.arms.spare.take(task.tenant, arm, task.slots)
            orders = self.board.awake, lane.group.waiting, lane.group.public.waiting
            served(orders, lane.path[0], lane.tier, now)
        lane.since = now
        lane.due = False
        self.remove(task)

    def adopt(self, task: Task, arm: Arm, *, now: float) -> None:
        """Count an attempt that somebody else has placed, whose slots `arm` holds already.

        It counts where numbers are limited; when it began, its rate was counted elsewhere.
        Again is the same.
        """
        if (task.task_id, task.attempt) in self._flights:
            return
        limits = self.board.limits.of(task, self.board.order, now=now)
        for limit in limits:
            limit.used += 1
        self.running[task.tenant] += 1
        self._flights[task.task_id, task.attempt] = Flight(task, arm, limits)
        if self.policy.fair:
            self.arms.spare.take(task.tenant, arm, task.slots)

    def land(self, task_id: str, attempt: int) -> Flight | None:
        """Give back what an attempt held; None when it is not in flight (any more)."""
        flight = self._flights.pop((task_id, attempt), None)
        if flight is not None:
            self.running[flight.task.tenant] -= 1
            self.arms.give_back(flight.arm, flight.task.slots)
            if self.policy.fair:
                self.arms.spare.take(flight.task.tenant, flight.arm, -flight.task.slots)
            for limit in flight.limits:
                limit.give_back()
                self.board.touch(limit)
        return flight

    def tick(self, now: float) -> list[Task]:
        """Do what is due by now; gives the tasks that were taken out as overdue."""
        overdue = []
        while (head := self._deadlines.head()) is not None and head[0] <= now:
            overdue.append(head[3])
            self.remove(head[3])
        for task in self.oldest_batch.pop_until(now):
            self._promote(task, now)
        self.arms.resume(now)
        if self.policy.fair:
            self.arms.spare.forget(now, busy=lambda it: self.waiting[it] + self.running[it] > 0)
            self.board.shares.credit = self.rules.catch_up * self.arms.slots
            self.arms.keep_spare()
        self.board.tick(now)
        return overdue

    def average_wait_s(self, now: float) -> float:
        """Say how long those that wait have waited, as it was up to a second ago.

        Looking at all of them takes some milliseconds when there are many.
        """
        if not self._tasks:
            return 0.0
        if not 0.0 <= now - self._averaged_at < AVERAGE_AGAIN_S:
            self._averaged_at = now
            waited_s = sum([max(now - task.queued_at, 0.0) for task in self])
            self._average_wait_s = waited_s / len(self._tasks)
        return self._average_wait_s

    def next_timer(self) -> float | None:
        """Say when `tick` next has something to do."""
        times = [self.board.next_timer(), self.arms.next_timer()]
        if (deadline := self._deadlines.head()) is not None:
            times.append(deadline[0])
        if (batch := self.oldest_batch.head()) is not None:
            times.append(batch[0])
        return min((at for at in times if at is not None), default=None)

    def use(self, policy: Builtin, *, now: float) -> None:
        """Order what waits by another policy; what is in flight is not touched."""
        for task in self:
            self.board.leave(task)
        self.board.use(policy)
        self.arms.spare.clear()
        for flight in self._flights.values() if policy.fair else ():
            self.arms.spare.take(flight.task.tenant, flight.arm, flight.task.slots)
        for task in self:
            task.rank = policy.rank(task, self.rules.ageing_s)
            self._enter(task, now)

    def _promote(self, task: Task, now: float) -> None:
        """Move a batch task that has waited long enough to the interactive tier."""
        self.depth[BATCH] -= 1
        self.depth[INTERACTIVE] += 1
        self.board.leave(task)
        if self.rules.full == "shed_batch":
            self.least_batch.forget()
        task.tier = INTERACTIVE
        task.promoted = True
        self._enter(task, now)

    def _enter(self, task: Task, now: float) -> None:
        self.board.enter(task, now=now)
        if task.lane is not None and task.lane.path is not None:
            self.arms.spare.seen(task.lane.path[0], now)

    def _forget_batch(self) -> None:
        self.oldest_batch.forget()
        if self.rules.full == "shed_batch":
            self.least_batch.forget()
