"""The sorted view of the READY stream: who waits, and which attempts were called off."""

from collections.abc import Iterator
from typing import Final, cast

from octarm.policies.builtin.policy import Builtin
from octarm.policies.queue.arms import Arms
from octarm.policies.queue.limits import Limits
from octarm.policies.queue.queue import Queue, Rules
from octarm.policies.queue.shares import Shares
from octarm.scheduler.domain.tasks import Hold, QueuedTask

MAX_ENDED: Final = 10_000
# The ledger ends a task at its deadline, by its own clock, and says so. This machine's clock may
# be ahead: dropped earlier, a task would be withheld until it is too late.
OVERDUE_AFTER_S: Final = 600.0


class ShardQueue(Queue):
    """What waits at one shard; a task that was called off does not wait, now or when it comes."""

    def __init__(
        self,
        policy: Builtin,
        arms: Arms,
        *,
        rules: Rules | None = None,
        shares: Shares | None = None,
        limits: Limits | None = None,
    ) -> None:
        arms.forget_groups()
        rules = rules or Rules(overdue_after_s=OVERDUE_AFTER_S)
        super().__init__(policy, arms, rules=rules, shares=shares, limits=limits)
        self._ended: dict[str, int] = {}

    def __iter__(self) -> Iterator[QueuedTask]:
        return cast("Iterator[QueuedTask]", super().__iter__())

    def get(self, task_id: str) -> QueuedTask | None:
        """Give a waiting task."""
        return self._tasks.get(task_id)  # type: ignore[return-value]

    def overdue(self, now: float) -> list[QueuedTask]:
        """Do what is due by now; gives the tasks that were taken out as overdue."""
        return cast("list[QueuedTask]", self.tick(now))

    def partly_done(self) -> dict[Hold, list[QueuedTask]]:
        """Give the waiting tasks of messages of which other tasks do not wait any more."""
        found: dict[Hold, list[QueuedTask]] = {}
        for task in self:
            if task.hold.left < task.hold.size:
                found.setdefault(task.hold, []).append(task)
        return found

    def ended(self, task_id: str, attempt: int) -> bool:
        """Whether this attempt was called off, even before it came here."""
        return self._ended.get(task_id, 0) >= attempt

    def call_off(self, task_id: str, attempt: int) -> QueuedTask | None:
        """Drop the task if attempt `attempt` or an earlier one waits, now or when it comes."""
        self._ended[task_id] = max(attempt, self._ended.get(task_id, 0))
        if len(self._ended) > MAX_ENDED:
            del self._ended[next(iter(self._ended))]
        task = self.get(task_id)
        if task is None or task.attempt > attempt:
            return None
        self.remove(task)
        return task
