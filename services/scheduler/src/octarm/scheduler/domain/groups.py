"""Tasks that the same arms can take: they are placed, or blocked, together."""

from octarm.scheduler.domain.fleet import Arm
from octarm.scheduler.domain.heaps import LazyHeap
from octarm.scheduler.domain.tasks import QueuedTask


class Group:
    """The waiting tasks with one (needs, assigned_arm), by tier."""

    __slots__ = ("arms", "assigned_arm", "epoch", "heaps", "needs")

    def __init__(self, needs: frozenset[str], assigned_arm: str | None) -> None:
        self.needs = needs
        self.assigned_arm = assigned_arm
        self.heaps = (LazyHeap(), LazyHeap())
        self.arms: frozenset[Arm] = frozenset()
        self.epoch = -1

    def __len__(self) -> int:
        return self.heaps[0].live + self.heaps[1].live

    def head(self) -> QueuedTask | None:
        """Give the task that goes first, without taking it."""
        first = self.heaps[0].head() or self.heaps[1].head()
        return None if first is None else first[1]
