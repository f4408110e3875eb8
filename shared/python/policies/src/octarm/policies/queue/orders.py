"""The order between lanes: by tier, then by share where shares count, then by rank.

Every heap here is lazy: an entry says how things stood when it was pushed, and is put right
when it comes to the top. That is enough because what an entry is sorted by only grows; where it
shrinks (a more urgent task arrives) the lane is added again.
"""

from collections import deque
from heapq import heapify, heappop, heappush, heapreplace
from itertools import count
from typing import Final

from octarm.policies.queue.lanes import Lane
from octarm.policies.queue.shares import Share

_SLACK: Final = 64
_stamps = count(1)

_Entry = tuple[float, str, int, Lane]
_Ranked = tuple[float, str, int, Share]


class _Leaf:
    """Lanes by the rank of their first task."""

    __slots__ = ("_items", "_order", "_tidy_at", "since", "stamp")

    def __init__(self, order: "Order", since: float) -> None:
        self.since = since
        self.stamp = next(_stamps)
        self._items: list[_Entry] = []
        self._order = order
        self._tidy_at = _SLACK

    def add(self, lane: Lane) -> None:
        """Let a lane stand here, or tell that its first task is another."""
        if len(self._items) >= self._tidy_at:
            self._items = [item for item in self._items if self._stands(item)]
            heapify(self._items)
            self._tidy_at = 2 * len(self._items) + _SLACK
        task = lane.first()
        lane.stamp = next(_stamps)
        heappush(self._items, (task.rank, task.task_id, lane.stamp, lane))

    def first(self, now: float) -> Lane | None:
        """Give the first lane."""
        items = self._items
        while items:
            item = items[0]
            if not self._stands(item):
                heappop(items)
                continue
            rank, task_id, stamp, lane = item
            task = lane.first()
            if task.rank == rank and task.task_id == task_id:
                return lane
            heapreplace(items, (task.rank, task.task_id, stamp, lane))
        return None

    def served(self, lane: Lane, now: float) -> None:
        """Take no notice: ranks do not depend on who was served."""

    def holds_only(self, lane: Lane) -> bool:
        """Whether nothing else has stood here since it was last tidied up."""
        return len(self._items) == 1 and self._items[0][3] is lane

    def holds_none(self) -> bool:
        """Whether nothing has stood here since it was last tidied up."""
        return not self._items

    def lanes(self) -> list[Lane]:
        """Give the lanes that stand here, in no order."""
        order = self._order
        # As `_stands`, without its calls: a script's window asks this of every lane.
        return [it[3] for it in self._items if it[3].stamp == it[2] and it[3].order is order]

    def _stands(self, item: _Entry) -> bool:
        return item[3].stamp == item[2] and item[3].order is self._order


class _Fair:
    """Who has had least by weight goes first, equal ones by name.

    Who was not served here for `patience_s` is due: it goes first, once. So a tenant that was
    given much elsewhere does not wait here until all others have caught up.
    """

    __slots__ = ("_depth", "_due", "_heap", "_order", "_parts", "_patient", "since", "stamp")

    def __init__(self, order: "Order", since: float, depth: int = 0) -> None:
        self.since = since
        self.stamp = next(_stamps)
        self._order = order
        self._depth = depth
        self._parts: dict[Share, _Fair | _Leaf] = {}
        self._heap: list[_Ranked] = []
        self._patient: list[_Ranked] = []
        self._due: deque[Lane] = deque()

    def add(self, lane: Lane) -> None:
        """Let a lane stand here, or tell that its first task is another."""
        assert lane.path is not None, "shares count here"
        if lane.due and not self._depth:
            self._due.append(lane)
        share = lane.path[self._depth]
        part = self._parts.get(share)
        if part is None:
            part = self._open(share, lane.since)
        part.add(lane)

    def first(self, now: float) -> Lane | None:
        """Give the lane whose turn it is."""
        due = self._due
        while due:
            if due[0].due and due[0].order is self._order:
                return due[0]
            due.popleft()
        if not self._depth and (lane := self._first_due(now)) is not None:
            return lane
        heap = self._heap
        while heap:
            virtual, name, stamp, share = heap[0]
            lane = self._first_of(share, stamp, now)
            if lane is None:
                heappop(heap)
            elif share.virtual > virtual:
                heapreplace(heap, (share.virtual, name, stamp, share))
            else:
                return lane
        return None

    def holds_only(self, lane: Lane) -> bool:
        """Say no: whose turn it is has to be looked up."""
        return False

    def holds_none(self) -> bool:
        """Whether nothing stands here."""
        return not self._parts

    def served(self, lane: Lane, now: float) -> None:
        """Note that the tenant of a lane was served."""
        assert lane.path is not None, "shares count here"
        part = self._parts.get(lane.path[0])
        if part is not None:
            part.since = now

    def lanes(self) -> list[Lane]:
        """Give the lanes that stand here, in no order."""
        return [lane for part in self._parts.values() for lane in part.lanes()]

    def _open(self, share: Share, since: float) -> "_Fair | _Leaf":
        part = _Fair(self._order, since, 1) if not self._depth else _Leaf(self._order, since)
        self._parts[share] = part
        heappush(self._heap, (share.virtual, share.name, part.stamp, share))
        if not self._depth:
            heappush(self._patient, (since, share.name, part.stamp, share))
            if len(self._patient) > 2 * len(self._parts) + _SLACK:
                stands = {part.stamp for part in self._parts.values()}
                self._patient = [item for item in self._patient if item[2] in stands]
                heapify(self._patient)
        return part

    def _first_due(self, now: float) -> Lane | None:
        patient, patience_s = self._patient, self._order.patience_s
        while patient and patient[0][0] + patience_s <= now:
            since, name, stamp, share = patient[0]
            lane = self._first_of(share, stamp, now)
            if lane is None:
                heappop(patient)
            elif (waits_since := self._parts[share].since) > since:
                heapreplace(patient, (waits_since, name, stamp, share))
            else:
                lane.due = True
                return lane
        return None

    def _first_of(self, share: Share, stamp: int, now: float) -> Lane | None:
        """Give the first lane of a part that stood here at that stamp; forget an empty one."""
        part = self._parts.get(share)
        if part is None or part.stamp != stamp:
            return None
        lane = part.first(now)
        if lane is None:
            del self._parts[share]
        return lane


class Order:
    """Lanes of both tiers, interactive ones first."""

    __slots__ = ("_tiers", "patience_s")

    def __init__(self, *, fair: bool, patience_s: float) -> None:
        self.patience_s = patience_s
        part = _Fair if fair else _Leaf
        self._tiers: tuple[_Fair | _Leaf, _Fair | _Leaf] = (part(self, 0.0), part(self, 0.0))

    def add(self, lane: Lane) -> None:
        """Let a lane stand here and nowhere else, or tell that its first task is another."""
        lane.order = self
        self._tiers[lane.tier].add(lane)

    def first(self, now: float) -> Lane | None:
        """Give the lane that goes first, without taking it."""
        return self._tiers[0].first(now) or self._tiers[1].first(now)

    def holds_only(self, lane: Lane) -> bool:
        """Whether that lane certainly goes first; false when that has to be looked up."""
        if not lane.live or lane.order is not self:
            return False
        first, second = self._tiers
        return first.holds_only(lane) or (first.holds_none() and second.holds_only(lane))

    def served(self, lane: Lane, now: float) -> None:
        """Note that a task of the lane was placed."""
        self._tiers[lane.tier].served(lane, now)

    def lanes(self) -> list[Lane]:
        """Give the lanes that stand here, in no order."""
        return [lane for tier in self._tiers for lane in tier.lanes()]
