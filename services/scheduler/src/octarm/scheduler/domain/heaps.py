"""A heap with lazy deletion: what has left is only skipped when it comes to the top."""

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count

from octarm.scheduler.domain.tasks import QueuedTask

_SLACK = 64
_serial = count()


class LazyHeap:
    """Tasks by key, equal keys by task id (which follows the time of creation)."""

    __slots__ = ("_alive", "_items", "live")

    def __init__(self, alive: Callable[[QueuedTask], bool] | None = None) -> None:
        self._alive = alive or (lambda task: task.heap is self)
        self._items: list[tuple[float, str, int, QueuedTask]] = []
        self.live = 0

    def push(self, key: float, task: QueuedTask) -> None:
        """Add a task; the serial number keeps tasks themselves from being compared."""
        heappush(self._items, (key, task.ready.task_id, next(_serial), task))
        self.live += 1

    def head(self) -> tuple[float, QueuedTask] | None:
        """Give the smallest key and its task without taking it."""
        items = self._items
        while items:
            key, _, _, task = items[0]
            if self._alive(task):
                return key, task
            heappop(items)
        return None

    def pop_until(self, key: float) -> list[QueuedTask]:
        """Take out every live task with a key of at most `key`, smallest first."""
        taken = []
        while (head := self.head()) is not None and head[0] <= key:
            heappop(self._items)
            self.live -= 1
            taken.append(head[1])
        return taken

    def forget(self) -> None:
        """Note that one live task has left; rebuild when the dead outnumber the living."""
        self.live -= 1
        if len(self._items) > 2 * self.live + _SLACK:
            self._items = [item for item in self._items if self._alive(item[3])]
            heapify(self._items)
