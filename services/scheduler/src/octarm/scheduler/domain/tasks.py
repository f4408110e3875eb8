"""One waiting task, and the READY message that it came in."""

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Final

from octarm.models.hot import ReadyTask

if TYPE_CHECKING:
    from octarm.scheduler.domain.groups import Group
    from octarm.scheduler.domain.heaps import LazyHeap

INTERACTIVE: Final = 0
BATCH: Final = 1
TIERS: Final = ("interactive", "batch")


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


class QueuedTask:
    """A ready task in the view; `heap` is where it waits, None once it has left."""

    __slots__ = (
        "deadline",
        "group",
        "heap",
        "hold",
        "queued_at",
        "rank",
        "ready",
        "seen_ns",
        "tier",
    )

    def __init__(self, ready: ReadyTask, hold: Hold, *, seen_ns: int = 0) -> None:
        self.ready = ready
        self.hold = hold
        self.seen_ns = seen_ns
        self.tier = BATCH if ready.tier == "batch" else INTERACTIVE
        self.queued_at = ready.queued_at.timestamp()
        self.deadline = None if ready.deadline is None else ready.deadline.timestamp()
        self.rank = 0.0
        self.group: Group | None = None
        self.heap: LazyHeap | None = None

    @property
    def task_id(self) -> str:
        """The task's id."""
        return self.ready.task_id

    @property
    def key(self) -> tuple[str, int]:
        """The attempt: task id and number."""
        return self.ready.task_id, self.ready.attempt

    @property
    def attempt(self) -> int:
        """The fencing token."""
        return self.ready.attempt
