"""One waiting task, and the READY message that it came in."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from octarm.models.hot import ReadyTask
from octarm.policies.queue.tasks import BATCH, INTERACTIVE, SESSION_LABEL, Task

MOST_NEEDS: Final = 4096
_needs: Final[dict[tuple[str, ...], frozenset[str]]] = {}


def gone() -> None:
    """Settle what cannot be: there is no message any more."""


class Hold:
    """A READY message that is kept unacknowledged while one of its tasks waits.

    `settle` acknowledges its newest delivery; it may be called again without harm.
    `published_at` tells it from one with the same number in a stream that was made anew.
    `split_at` is when (monotonic seconds) what is left of it was last due to be split off.
    """

    __slots__ = ("left", "published_at", "seq", "settle", "size", "split_at")

    def __init__(
        self,
        seq: int,
        size: int,
        settle: Callable[[], None],
        published_at: datetime | None = None,
    ) -> None:
        self.seq = seq
        self.published_at = published_at
        self.size = size
        self.left = size
        self.settle = settle
        self.split_at: float | None = None

    def task_done(self) -> bool:
        """Count off one task; settle the message, and say so, when it was the last."""
        self.left -= 1
        if self.left:
            return False
        self.settle()
        return True


class QueuedTask(Task):
    """A ready task in the view."""

    __slots__ = ("hold", "ready", "seen_ns")

    def __init__(self, ready: ReadyTask, hold: Hold, *, seen_ns: int = 0) -> None:
        # Not by the one above, whose many defaults cost more than all of this.
        self.ready = ready
        self.hold = hold
        self.seen_ns = seen_ns
        self.task_id = ready.task_id
        self.attempt = ready.attempt
        self.tenant = ready.tenant
        self.tier = BATCH if ready.tier == "batch" else INTERACTIVE
        self.priority = ready.priority
        self.needs = _shared(ready.needs)
        self.labels = labels = ready.labels
        self.session = labels.get(SESSION_LABEL, "") if labels else ""
        self.assigned_arm = ready.assigned_arm
        self.queued_at = ready.queued_at.timestamp()
        self.deadline = None if ready.deadline is None else ready.deadline.timestamp()
        self.slots = ready.slots
        self.est_s = 0.0
        self.est_cost = 0
        self.tokens = 0
        self.payload = None
        self.rank = 0.0
        self.promoted = False
        self.lane = None

    @property
    def key(self) -> tuple[str, int]:
        """The attempt: task id and number."""
        return self.task_id, self.attempt


def _shared(needs: Sequence[str]) -> frozenset[str]:
    """Give the same set for the same needs: its hash is taken for every task."""
    key = tuple(needs)
    found = _needs.get(key)
    if found is None:
        if len(_needs) >= MOST_NEEDS:
            _needs.clear()
        found = _needs[key] = frozenset(key)
    return found
