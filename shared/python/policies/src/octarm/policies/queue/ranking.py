"""Arms with room, in the order of the policy."""

from bisect import bisect_left, insort
from collections.abc import Callable
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from octarm.policies.queue.arm import Arm
    from octarm.policies.queue.arms import Arms

Key = tuple[float | str, ...]
# The key (which ends in the arm's id), the arm's version at that time, the arm: flat, since nested
# tuples take twice as long to compare.
Ranked = tuple[Any, ...]

FEW: Final = 16


class Ranking:
    """The arms of `members` that have `slots` free, the most liked first.

    Placing on an arm only ever makes it less liked, so it is enough to look again at an arm when
    it comes to the front; arms that have become more liked are read from a log. One that was looked
    at again waits in a heap until it is its turn: most often that is not in the same cycle. All
    tasks that need one slot of the same arms share one: an arm is put where it belongs once for all
    of them. An arm whose provider has no headroom is left out when it comes to the front.
    """

    __slots__ = (
        "_again",
        "_arms",
        "_cursor",
        "_entries",
        "_fits",
        "_free",
        "_of",
        "_prefer",
        "_ranked",
        "_slots",
    )

    def __init__(
        self,
        arms: "Arms",
        members: "frozenset[Arm]",
        *,
        fits: "dict[Arm, float] | None",
        free: "Callable[[Arm], int]",
        slots: int,
    ) -> None:
        self._arms = arms
        self._of = members
        self._prefer = arms.prefer
        self._fits = fits
        self._free = free
        self._slots = slots
        self._entries: dict[Arm, Ranked] = {}
        self._ranked: list[Ranked] = []
        self._again: list[Ranked] = []
        self._cursor = arms.log_end
        self._rebuild()

    def best(self, count: int) -> list[Ranked]:
        """Give up to `count` arms with room, the most liked first, with what they are liked by."""
        if self._cursor != self._arms.log_end:
            self._catch_up()
        ranked, again, place = self._ranked, self._again, 0
        while place < count:
            if place == len(ranked) or (place == count - 1 and again and again[0] < ranked[place]):
                if not again:
                    break
                insort(ranked, heappop(again))
                place = 0
            one = ranked[place]
            arm = one[-1]
            closed = arm.governor is not None and not arm.governor.open
            if one[-2] == arm.version and not closed:
                place += 1
                continue
            del ranked[place]
            if not closed and self._free(arm) >= self._slots:
                self._entries[arm] = entry = self._entry(arm)
                heappush(again, entry)
            else:
                del self._entries[arm]
        return ranked[:count]

    def _catch_up(self) -> None:
        arms = self._arms
        changed = arms.since(self._cursor)
        self._cursor = arms.log_end
        if changed is None:
            self._rebuild()
        elif len(changed) > FEW:
            self._replace(changed)
        else:
            while self._again:
                insort(self._ranked, self._again.pop())
            for arm in changed:
                if arm in self._of:
                    self._update(arm)

    def _rebuild(self) -> None:
        slots, free, entry = self._slots, self._free, self._entry
        self._entries = {arm: entry(arm) for arm in self._of if free(arm) >= slots}
        self._ranked = sorted(self._entries.values())
        self._again.clear()

    def _replace(self, changed: "dict[Arm, None]") -> None:
        """Put many arms where they belong now; what is sorted already costs the sort nothing."""
        ranked = [one for one in self._ranked + self._again if one[-1] not in changed]
        self._again.clear()
        entries, slots, free, entry = self._entries, self._slots, self._free, self._entry
        for arm in self._of.intersection(changed):
            if free(arm) >= slots:
                entries[arm] = one = entry(arm)
                ranked.append(one)
            else:
                entries.pop(arm, None)
        ranked.sort()
        self._ranked = ranked

    def _update(self, arm: "Arm") -> None:
        known = self._entries.pop(arm, None)
        if known is not None:
            del self._ranked[bisect_left(self._ranked, known)]
        if self._free(arm) >= self._slots:
            self._entries[arm] = entry = self._entry(arm)
            insort(self._ranked, entry)

    def _entry(self, arm: "Arm") -> Ranked:
        """Say how much an arm is liked now: once for all rankings, but for how it fits needs."""
        entry = arm.entry
        if entry[-2] != arm.version:
            # Unpacking would take half as long again.
            entry = arm.entry = self._prefer(arm) + (arm.version, arm)  # noqa: RUF005
        if self._fits is None:
            return entry
        return (entry[0] - self._fits[arm],) + entry[1:]  # noqa: RUF005
