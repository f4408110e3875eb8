"""One scheduling cycle: which waiting tasks go to which arms, now.

Pure: it changes the view and the fleet's reservations, and says what it decided.
"""

from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from heapq import heapify, heappop, heapreplace
from typing import Final

from octarm.models.hot import Score
from octarm.scheduler.domain.eligibility import eligible
from octarm.scheduler.domain.fleet import Arm, Fleet
from octarm.scheduler.domain.groups import Group
from octarm.scheduler.domain.queue import QueueView
from octarm.scheduler.domain.tasks import QueuedTask

WINDOW: Final = 256
BEST: Final = 5

Preference = Callable[[Arm], tuple[float, int, str]]
# (preference, slots in use, arm); preferences differ, so arms are never compared.
_Ranked = tuple[tuple[float, int, str], int, Arm]


@dataclass(frozen=True, slots=True)
class Decision:
    """A task goes to an arm, for a reason, ahead of others with these scores."""

    task: QueuedTask
    arm: Arm
    reason: str
    scores: list[Score]


class _Candidates:
    """The arms with room for one group, best first.

    Placing only ever makes an arm less liked, so it is enough to look again at an arm when
    it stands among the best.
    """

    __slots__ = ("_prefer", "_ranked", "_reason", "group")

    def __init__(self, group: Group, ranking: list[_Ranked], prefer: Preference) -> None:
        self.group = group
        self._prefer = prefer
        self._ranked = [ranked for ranked in ranking if ranked[2] in group.arms]
        self._reason = "the pinned arm" if group.assigned_arm else "the only arm with room"

    def best(self) -> Arm | None:
        """Give the best arm that still has room."""
        self._refresh()
        return self._ranked[0][2] if self._ranked else None

    def why(self) -> tuple[str, list[Score]]:
        """Give the reason for the best arm, and the scores of the best five."""
        ranked = self._ranked
        scores = [_score(arm.arm_id, len(arm.flights), arm.slots) for _, _, arm in ranked[:BEST]]
        if len(ranked) == 1:
            return self._reason, scores
        return _least_busy(len(ranked)), scores

    def _refresh(self) -> None:
        ranked, place = self._ranked, 0
        while place < BEST and place < len(ranked):
            _, known, arm = ranked[place]
            used = len(arm.flights)
            if used == known:
                place += 1
                continue
            del ranked[place]
            if used < arm.slots:
                insort(ranked, (self._prefer(arm), used, arm))


@lru_cache(4096)
def _least_busy(arms: int) -> str:
    return f"least busy of {arms} arms with room"


@lru_cache(4096)
def _score(arm_id: str, used: int, slots: int) -> Score:
    return Score(arm_id, round(1 - used / slots, 4), f"{used} of {slots} slots in use")


def place(
    queue: QueueView, fleet: Fleet, prefer: Preference, *, now: float, window: int = WINDOW
) -> list[Decision]:
    """Place up to `window` tasks, the most urgent first, and reserve their slots.

    Groups without room fall asleep until an arm that could take them has some. `now` is in
    monotonic seconds.
    """
    heads: list[_Head] = []
    if awake := _with_room(queue, fleet):
        free = [arm for arm in fleet.arms.values() if arm.free and arm.facts is not None]
        ranking = sorted([(prefer(arm), len(arm.flights), arm) for arm in free])
        for number, group in enumerate(awake):
            first = group.head()
            assert first is not None, "a group with room has a task"
            heads.append(_head(first, number, _Candidates(group, ranking, prefer)))
        heapify(heads)
    decisions: list[Decision] = []
    while heads and len(decisions) < window:
        _, _, _, number, task, candidates = heads[0]
        arm = candidates.best()
        if arm is None:
            heappop(heads)
            continue
        decisions.append(Decision(task, arm, *candidates.why()))
        queue.remove(task)
        fleet.reserve(arm, (task.task_id, task.attempt), now=now)
        following = candidates.group.head()
        if following is None:
            heappop(heads)
        else:
            heapreplace(heads, _head(following, number, candidates))
    return decisions


_Head = tuple[int, float, str, int, QueuedTask, _Candidates]


def _head(task: QueuedTask, number: int, candidates: _Candidates) -> _Head:
    """Order by tier, rank and id; the number keeps tasks themselves from being compared."""
    return task.tier, task.rank, task.ready.task_id, number, task, candidates


def _with_room(queue: QueueView, fleet: Fleet) -> list[Group]:
    """Give the awake groups that an arm with room can take; let the others fall asleep."""
    queue.wake(fleet)
    found = []
    for group in list(queue.awake):
        if group.epoch != fleet.epoch:
            arms = eligible(fleet.arms.values(), group.needs, group.assigned_arm)
            group.arms, group.epoch = frozenset(arms), fleet.epoch
        if len(group) and any(arm.free for arm in group.arms):
            found.append(group)
            continue
        queue.awake.discard(group)
        if len(group):
            for arm in group.arms:
                arm.waiters.add(group)
    return found


def placeable(queue: QueueView, fleet: Fleet) -> bool:
    """Whether a cycle would place anything now."""
    return bool(_with_room(queue, fleet))
