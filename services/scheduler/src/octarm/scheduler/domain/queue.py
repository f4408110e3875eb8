"""The sorted view of the READY stream: who waits, in what order, and with whom.

Times are Unix seconds of the ledger's and this machine's wall clocks.
"""

from collections.abc import Iterator
from typing import Final

from octarm.scheduler.domain.fleet import Fleet
from octarm.scheduler.domain.groups import Group
from octarm.scheduler.domain.heaps import LazyHeap
from octarm.scheduler.domain.priority import rank
from octarm.scheduler.domain.tasks import BATCH, INTERACTIVE, TIERS, Hold, QueuedTask

MAX_ENDED: Final = 10_000
OVERDUE_AFTER_S: Final = 600.0


def _waits(task: QueuedTask) -> bool:
    return task.heap is not None


class QueueView:
    """Waiting tasks by id, grouped by the arms that can take them.

    Only groups in `awake` are looked at by a cycle: a blocked group costs nothing until an
    arm that it waits for has room.
    """

    def __init__(self, *, ageing_s: float, promote_after_s: float) -> None:
        self._ageing_s = ageing_s
        self._promote_after_s = promote_after_s
        self._tasks: dict[str, QueuedTask] = {}
        self._groups: dict[tuple[str | None, ...], Group] = {}
        self._deadlines = LazyHeap(_waits)
        self._batch = LazyHeap(lambda task: task.heap is not None and task.tier == BATCH)
        self._ended: dict[str, int] = {}
        self.awake: set[Group] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def partly_done(self) -> dict[Hold, list[QueuedTask]]:
        """Give the waiting tasks of messages of which other tasks do not wait any more."""
        found: dict[Hold, list[QueuedTask]] = {}
        for task in self._tasks.values():
            if task.hold.left < task.hold.size:
                found.setdefault(task.hold, []).append(task)
        return found

    def __iter__(self) -> Iterator[QueuedTask]:
        return iter(self._tasks.values())

    def get(self, task_id: str) -> QueuedTask | None:
        """Give a waiting task."""
        return self._tasks.get(task_id)

    def groups(self) -> list[Group]:
        """Give the groups with waiting tasks."""
        return [group for group in set(self._groups.values()) if len(group)]

    def depth(self) -> dict[str, int]:
        """Count the waiting tasks of each tier."""
        groups = self.groups()
        return {name: sum(group.heaps[i].live for group in groups) for i, name in enumerate(TIERS)}

    def ended(self, task_id: str, attempt: int) -> bool:
        """Whether this attempt was called off, even before it came here."""
        return self._ended.get(task_id, 0) >= attempt

    def call_off(self, task_id: str, attempt: int) -> QueuedTask | None:
        """Drop the task if attempt `attempt` or an earlier one waits, now or when it comes."""
        self._ended[task_id] = max(attempt, self._ended.get(task_id, 0))
        if len(self._ended) > MAX_ENDED:
            del self._ended[next(iter(self._ended))]
        task = self._tasks.get(task_id)
        if task is None or task.attempt > attempt:
            return None
        self.remove(task)
        return task

    def add(self, task: QueuedTask) -> None:
        """Let a task wait; the caller has made sure that its id does not wait already."""
        self._tasks[task.ready.task_id] = task
        task.rank = rank(task.ready.priority, task.queued_at, ageing_s=self._ageing_s)
        task.group = group = self._group(task)
        task.heap = heap = group.heaps[task.tier]
        heap.push(task.rank, task)
        self.awake.add(group)
        if task.deadline is not None:
            self._deadlines.push(task.deadline + OVERDUE_AFTER_S, task)
        if task.tier == BATCH:
            self._batch.push(task.queued_at + self._promote_after_s, task)

    def remove(self, task: QueuedTask) -> None:
        """Take a waiting task out."""
        assert task.heap is not None, "it waits"
        del self._tasks[task.ready.task_id]
        heap, task.heap = task.heap, None
        heap.forget()
        if task.deadline is not None:
            self._deadlines.forget()
        if task.tier == BATCH:
            self._batch.forget()

    def promote(self, now: float) -> int:
        """Move batch tasks that have waited long enough to the interactive tier."""
        due = self._batch.pop_until(now)
        for task in due:
            assert task.group is not None, "it waits"
            task.tier = INTERACTIVE
            task.heap = task.group.heaps[INTERACTIVE]
            task.group.heaps[BATCH].forget()
            task.heap.push(task.rank, task)
        return len(due)

    def drop_overdue(self, now: float) -> list[QueuedTask]:
        """Drop the tasks whose deadline passed ten minutes ago, should nobody have said so.

        The ledger ends a task at its deadline, by its own clock, and says so. This machine's
        clock may be ahead: dropped earlier, a task would be withheld until it is too late.
        """
        due = []
        while (head := self._deadlines.head()) is not None and head[0] <= now:
            self.remove(head[1])
            due.append(head[1])
        return due

    def next_timer(self) -> float | None:
        """When `promote` or `drop_overdue` next has something to do."""
        heads = (self._batch.head(), self._deadlines.head())
        return min((head[0] for head in heads if head is not None), default=None)

    def wake(self, fleet: Fleet) -> None:
        """Awake the groups that a change of the fleet may have unblocked."""
        self.awake.update(fleet.freed_waiters())

    def wake_all(self) -> None:
        """Awake every group, after the directory has changed; forget empty ones."""
        self._groups = {key: group for key, group in self._groups.items() if len(group)}
        self.awake = set(self._groups.values())

    def _group(self, task: QueuedTask) -> Group:
        key = (*task.ready.needs, task.ready.assigned_arm)
        group = self._groups.get(key)
        if group is None:
            # The same needs in another order are the same group under another name.
            needs = frozenset(task.ready.needs)
            canonical = (*sorted(needs), task.ready.assigned_arm)
            group = self._groups.get(canonical) or Group(needs, task.ready.assigned_arm)
            self._groups[canonical] = self._groups[key] = group
        return group
