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


class _Leaf:
    """Lanes by the rank of their first task."""

    __slots__ = ("_items", "_order", "_tidy_at")

    def __init__(self, order: "Order") -> None:
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
        items, order = self._items, self._order
        while items:
            rank, task_id, stamp, lane = items[0]
            if lane.stamp != stamp or lane.order is not order:
                heappop(items)
                continue
            task = lane.top
            if task.lane is not lane:
                task = lane.first()
            if task.rank == rank and task.task_id == task_id:
                return lane
            heapreplace(items, (task.rank, task.task_id, stamp, lane))
        return None

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


class _Sessions:
    """The sessions of a tenant: who has had least goes first, equal ones by name.

    `since` is when the tenant was last served here, or came.
    """

    __slots__ = ("_heap", "_order", "_parts", "since", "stamp")

    def __init__(self, order: "Order", since: float) -> None:
        self.since = since
        self.stamp = next(_stamps)
        self._order = order
        self._parts: dict[Share, _Leaf] = {}
        self._heap: list[tuple[float, str, int, Share, _Leaf]] = []

    def add(self, lane: Lane, share: Share) -> None:
        """Let a lane of that session stand here, or tell that its first task is another."""
        part = self._parts.get(share)
        if part is None:
            part = self._parts[share] = _Leaf(self._order)
            heappush(self._heap, (share.virtual, share.name, next(_stamps), share, part))
        part.add(lane)

    def first(self, now: float) -> Lane | None:
        """Give the lane whose turn it is."""
        heap = self._heap
        while heap:
            virtual, name, stamp, share, part = heap[0]
            if share.virtual > virtual:
                heapreplace(heap, (share.virtual, name, stamp, share, part))
                continue
            lane = part.first(now)
            if lane is None:
                heappop(heap)
                del self._parts[share]
            else:
                return lane
        return None

    def lanes(self) -> list[Lane]:
        """Give the lanes that stand here, in no order."""
        return [lane for part in self._parts.values() for lane in part.lanes()]


class _Fair:
    """Who has had least by weight goes first, equal ones by name.

    Who was not served here for `patience_s` is due: it goes first, once. So a tenant that was
    given much elsewhere does not wait here until all others have caught up.
    """

    __slots__ = ("_due", "_heap", "_order", "_patient", "parts")

    def __init__(self, order: "Order") -> None:
        self._order = order
        self.parts: dict[Share, _Sessions] = {}
        self._heap: list[_Ranked] = []
        self._patient: list[_Ranked] = []
        self._due: deque[Lane] = deque()

    def add(self, lane: Lane) -> None:
        """Let a lane stand here, or tell that its first task is another."""
        assert lane.path is not None, "shares count here"
        if lane.due:
            self._due.append(lane)
        tenant, session = lane.path
        part = self.parts.get(tenant)
        if part is None:
            part = self._open(tenant, lane.since)
        part.add(lane, session)

    def first(self, now: float) -> Lane | None:
        """Give the lane whose turn it is."""
        due = self._due
        while due:
            if due[0].due and due[0].order is self._order:
                return due[0]
            due.popleft()
        patient = self._patient
        if patient and patient[0][0] + self._order.patience_s <= now:
            lane = self._first_due(now)
            if lane is not None:
                return lane
        heap = self._heap
        while heap:
            virtual, name, stamp, share, part = heap[0]
            if share.virtual > virtual:
                heapreplace(heap, (share.virtual, name, stamp, share, part))
            elif (lane := self._first_of(share, part, now)) is None:
                heappop(heap)
            else:
                return lane
        return None

    def lanes(self) -> list[Lane]:
        """Give the lanes that stand here, in no order."""
        return [lane for part in self.parts.values() for lane in part.lanes()]

    def _open(self, share: Share, since: float) -> _Sessions:
        part = self.parts[share] = _Sessions(self._order, since)
        heappush(self._heap, (share.virtual, share.name, part.stamp, share, part))
        heappush(self._patient, (since, share.name, part.stamp, share, part))
        if len(self._patient) > 2 * len(self.parts) + _SLACK:
            stands = self.parts
            self._patient = [it for it in self._patient if stands.get(it[3]) is it[4]]
            heapify(self._patient)
        return part

    def _first_due(self, now: float) -> Lane | None:
        patient, patience_s = self._patient, self._order.patience_s
        while patient and patient[0][0] + patience_s <= now:
            since, name, stamp, share, part = patient[0]
            lane = self._first_of(share, part, now)
            if lane is None:
                heappop(patient)
            elif part.since > since:
                heapreplace(patient, (part.since, name, stamp, share, part))
            else:
                lane.due = True
                return lane
        return None

    def _first_of(self, share: Share, part: _Sessions, now: float) -> Lane | None:
        """Give the first lane of a part, if it still stands here; forget an empty one."""
        if self.parts.get(share) is not part:
            return None
        lane = part.first(now)
        if lane is None:
            del self.parts[share]
        return lane


_Ranked = tuple[float, str, int, Share, _Sessions]


def served(orders: "tuple[Order, ...]", tenant: Share, tier: int, now: float) -> None:
    """Note in orders by shares that a task of a tenant was placed."""
    for order in orders:
        part = order.shares[tier].get(tenant)
        if part is not None:
            part.since = now


class Order:
    """Lanes of both tiers, interactive ones first; `shares` has their tenants, where they count."""

    __slots__ = ("_leaves", "_tiers", "patience_s", "shares")

    def __init__(self, *, fair: bool, patience_s: float) -> None:
        self.patience_s = patience_s
        self._tiers: tuple[_Fair | _Leaf, _Fair | _Leaf]
        self.shares: tuple[dict[Share, _Sessions], ...] = ()
        self._leaves: tuple[_Leaf, ...] = ()
        if fair:
            self._tiers = interactive, batch = _Fair(self), _Fair(self)
            self.shares = interactive.parts, batch.parts
        else:
            self._tiers = self._leaves = _Leaf(self), _Leaf(self)

    def add(self, lane: Lane) -> None:
        """Let a lane stand here and nowhere else, or tell that its first task is another."""
        lane.order = self
        self._tiers[lane.tier].add(lane)

    def first(self, now: float) -> Lane | None:
        """Give the lane that goes first, without taking it."""
        return self._tiers[0].first(now) or self._tiers[1].first(now)

    def holds_only(self, lane: Lane) -> bool:
        """Whether that lane certainly goes first; false when it has to be looked up: by shares."""
        if not self._leaves or not lane.live or lane.order is not self:
            return False
        first, second = self._leaves
        return first.holds_only(lane) or (first.holds_none() and second.holds_only(lane))

    def lanes(self) -> list[Lane]:
        """Give the lanes that stand here, in no order."""
        return [lane for tier in self._tiers for lane in tier.lanes()]
