"""A heap with lazy deletion: what has left is only skipped when it comes to the top."""

from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Final

from octarm.policies.queue.tasks import BATCH, Task

_SLACK: Final = 64
_serial = count()

Entry = tuple[float, str, int, Task]


class LazyHeap:
    """Tasks by key, equal keys by task id (which follows the time of creation).

    `holds` tells whether a task still belongs here; the owner counts those that leave with
    `forget`.
    """

    __slots__ = ("_items", "live")

    def __init__(self) -> None:
        self._items: list[Entry] = []
        self.live = 0

    def holds(self, task: Task) -> bool:
        """Whether a task that was pushed still belongs here."""
        return task.lane is not None

    def push(self, key: float, task: Task) -> None:
        """Add a task; the serial number keeps tasks themselves from being compared.

        Clears out the dead when they outnumber the living: here, since a heap that only shrinks
        needs no more memory, and cycles of placing, which shrink it, are to be short.
        """
        if len(self._items) > 2 * self.live + _SLACK:
            self._items = [item for item in self._items if self.holds(item[3])]
            heapify(self._items)
        heappush(self._items, (key, task.task_id, next(_serial), task))
        self.live += 1

    def head(self) -> Entry | None:
        """Give the first entry without taking it."""
        items = self._items
        while items:
            if self.holds(items[0][3]):
                return items[0]
            heappop(items)
        return None

    def pop(self) -> None:
        """Take the first entry out; the owner has just seen it with `head`."""
        heappop(self._items)
        self.live -= 1

    def pop_until(self, key: float) -> list[Task]:
        """Take out every live task with a key of at most `key`, smallest first."""
        taken = []
        while (head := self.head()) is not None and head[0] <= key:
            self.pop()
            taken.append(head[3])
        return taken

    def forget(self) -> None:
        """Note that one live task has left."""
        self.live -= 1

    def walk(self) -> Iterator[Task]:
        """Give the live tasks in order without taking them; k of them cost O(k log k)."""
        items = self._items
        frontier = [(items[0], 0)] if items else []
        while frontier:
            entry, place = heappop(frontier)
            if self.holds(entry[3]):
                yield entry[3]
            for child in (2 * place + 1, 2 * place + 2):
                if child < len(items):
                    heappush(frontier, (items[child], child))


class BatchHeap(LazyHeap):
    """Waiting tasks of the batch tier."""

    __slots__ = ()

    def holds(self, task: Task) -> bool:
        """Whether it waits, and has not been promoted."""
        return task.lane is not None and task.tier == BATCH
