"""How a policy that only watches would have decided: pure comparison, counted."""

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Final

from octarm.policies.actions import Checked, Dispatch, Reject, Wait

RECENT: Final = 50


@dataclass(frozen=True, slots=True)
class Difference:
    """A task that the two decided differently; what each does with it, in a word or an arm.

    `reason` is what the shadow says of it, `at_s` when it was decided (Unix seconds).
    """

    task: str
    live: str
    shadow: str
    reason: str = ""
    at_s: float = 0.0


def compare(live: Checked, shadow: Checked, *, at_s: float = 0.0) -> list[Difference]:
    """Give the tasks that one places or rejects otherwise than the other, sorted by id.

    Waiting is what is done to a task that is not named. Reasons and scores do not count.
    """
    one, other = _fates(live), _fates(shadow)
    said = {
        action.task: action.reason
        for action in shadow.kept
        if isinstance(action, Dispatch | Reject | Wait) and action.task is not None
    }
    return [
        Difference(task, one.get(task, WAITS), other.get(task, WAITS), said.get(task, ""), at_s)
        for task in sorted(one.keys() | other.keys())
        if one.get(task, WAITS) != other.get(task, WAITS)
    ]


@dataclass(slots=True)
class Tally:
    """What a shadow has amounted to; the newest differences are kept."""

    cycles: int = 0
    cycles_equal: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    placed_live: int = 0
    placed_shadow: int = 0
    moved: int = 0
    only_live: int = 0
    only_shadow: int = 0
    rejected: int = 0
    recent: deque[Difference] = field(default_factory=lambda: deque(maxlen=RECENT))

    def add(self, live: Checked, shadow: Checked, *, at_s: float = 0.0) -> None:
        """Count one cycle."""
        found = compare(live, shadow, at_s=at_s)
        self.cycles += 1
        self.cycles_equal += not found
        self.placed_live += sum(isinstance(it, Dispatch) for it in live.kept)
        self.placed_shadow += sum(isinstance(it, Dispatch) for it in shadow.kept)
        for it in found:
            self._count(it)
        self.recent += found

    def add_failure(self, reason: str) -> None:
        """Count a cycle in which the shadow gave nothing."""
        self.cycles += 1
        self.failures[reason] += 1

    def _count(self, it: Difference) -> None:
        if REJECTED in (it.live, it.shadow):
            self.rejected += 1
        elif it.shadow == WAITS:
            self.only_live += 1
        elif it.live == WAITS:
            self.only_shadow += 1
        else:
            self.moved += 1


# No arm can have these names.
WAITS: Final = "(waits)"
REJECTED: Final = "(rejected)"


def _fates(checked: Checked) -> dict[str, str]:
    fates = {}
    for action in checked.kept:
        if isinstance(action, Dispatch):
            fates[action.task] = action.arm
        elif isinstance(action, Reject):
            fates[action.task] = REJECTED
    return fates
