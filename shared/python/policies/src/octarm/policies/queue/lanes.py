"""Lanes: tasks that wait for exactly the same things.

The tasks of a lane have the same tier, arms and limits (and tenant and session where shares
count), so they are placed, or blocked, together: what is blocked costs a cycle nothing.
"""

from heapq import heappop
from typing import TYPE_CHECKING

from octarm.policies.queue.heaps import LazyHeap
from octarm.policies.queue.shares import Share
from octarm.policies.queue.tasks import Task

if TYPE_CHECKING:
    from octarm.policies.queue.groups import Group
    from octarm.policies.queue.limits import Limit
    from octarm.policies.queue.orders import Order

Path = tuple[Share, Share]
LaneKey = tuple["Group", tuple["Limit", ...], int, Path | None]
# The same, where neither limits nor shares count: needs, pinned arm, slots, tier.
PlainKey = tuple[frozenset[str], str | None, int, int]


class Lane(LazyHeap):
    """Tasks by rank.

    `order` is where the lane stands, None while it is empty; `asleep_at` is what it sleeps at,
    `baton` what woke it; `since` is when it was last served, or filled; `due` lanes go first,
    once. `top`, there since the first `push`, goes first as long as it waits here.
    """

    __slots__ = (
        "asleep_at",
        "baton",
        "due",
        "group",
        "key",
        "limits",
        "order",
        "path",
        "plain",
        "since",
        "stamp",
        "tier",
        "top",
    )

    def __init__(self, key: "LaneKey", *, since: float) -> None:
        super().__init__()
        self.key = key
        self.group, self.limits, self.tier, self.path = key
        self.order: Order | None = None
        self.plain: PlainKey | None = None
        self.stamp = 0
        self.since = since
        self.due = False
        self.asleep_at: Blocker | None = None
        self.baton: Blocker | None = None
        self.top: Task

    def push(self, key: float, task: Task) -> None:
        """Add a task."""
        LazyHeap.push(self, key, task)
        self.top = self._items[0][3]

    def first(self) -> Task:
        """Give the task that goes first; only lanes with tasks stand in an order."""
        # The same as `head`, without its calls: nothing is asked more often. With `top` the heap,
        # which is seldom in the processor's cache, need not be looked at.
        top = self.top
        if top.lane is self:
            return top
        items = self._items
        while items[0][3].lane is not self:
            heappop(items)
        self.top = top = items[0][3]
        return top

    def drop_baton(self) -> "Blocker | None":
        """Let go of the baton, as it has had its turn; gives what had woken it."""
        blocker, self.baton = self.baton, None
        if blocker is not None:
            blocker.baton = None
        return blocker

    def holds(self, task: Task) -> bool:
        """Whether the task still waits in this lane."""
        return task.lane is self


class Blocker:
    """Something that lanes wait for: room on a group of arms, or room within a limit.

    When it has room it wakes its best lane only, to which it gives the `baton`; the next one
    follows when that lane was placed or waits for something else. A freed slot costs O(log n),
    however many wait. `asleep` counts the lanes that sleep here, `lanes` all that are subject
    to it. `timer_at` is when time itself may change something.
    """

    __slots__ = ("asleep", "baton", "lanes", "timer_at", "waiting")

    def __init__(self, waiting: "Order") -> None:
        self.waiting = waiting
        self.asleep = 0
        self.timer_at: float | None = None
        self.lanes = 0
        self.baton: Lane | None = None

    def has_room(self, now: float) -> bool:
        """Whether one more task could be placed as far as this is concerned."""
        raise NotImplementedError

    def look_again_at(self, task: Task, patience_s: float, *, now: float) -> float | None:
        """Say when time itself may change something for a task that is blocked here."""
        raise NotImplementedError
