"""Deadlines of many attempts on one timer of the event loop."""

import asyncio
import heapq
from collections.abc import Callable
from typing import Final, Generic, TypeVar

T = TypeVar("T")
PER_S: Final = 20


class Deadlines(Generic[T]):
    """Calls `passed` for each item whose time is up, at most a twentieth of a second late.

    Nearly all are taken out long before: that costs nothing but the entry in a set, where a
    timer of its own for each would be the dearest part of a short attempt.
    """

    def __init__(self, passed: Callable[[T], None]) -> None:
        self._passed = passed
        self._due: dict[int, set[T]] = {}
        self._order: list[int] = []
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for = 0

    def put(self, item: T, after_s: float) -> int:
        """Take an item in; gives its slot, by which it is taken out."""
        loop = asyncio.get_running_loop()
        slot = int((loop.time() + after_s) * PER_S) + 1
        due = self._due.get(slot)
        if due is None:
            due = self._due[slot] = set()
            heapq.heappush(self._order, slot)
        due.add(item)
        if self._timer is None or slot < self._armed_for:
            self._arm(loop, slot)
        return slot

    def drop(self, item: T, slot: int) -> None:
        """Take an item out; it need not be there any more."""
        due = self._due.get(slot)
        if due is not None:
            due.discard(item)

    def close(self) -> None:
        """Call for nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
        self._due.clear()
        self._order.clear()

    def _arm(self, loop: asyncio.AbstractEventLoop, slot: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed_for = slot
        self._timer = loop.call_at(slot / PER_S, self._fire)

    def _fire(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        now = loop.time() * PER_S
        order, due = self._order, self._due
        while order and (order[0] <= now or not due[order[0]]):
            for item in due.pop(heapq.heappop(order)):
                self._passed(item)
        if order and self._timer is None:
            self._arm(loop, order[0])
