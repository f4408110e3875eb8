"""What a built-in policy is: two orders, of waiting tasks and of arms with room."""

from collections.abc import Callable
from dataclasses import dataclass

from octarm.policies.queue.arm import Arm
from octarm.policies.queue.ranking import Key
from octarm.policies.queue.tasks import Task


@dataclass(frozen=True, slots=True)
class Builtin:
    """A policy of the platform.

    `rank` says how early a task goes within its tier, the smallest first, given the seconds of
    waiting that count for one step of priority; it never changes while the task waits. `prefer`
    says how much an arm with room is liked, the smallest first: it ends in the arm's id, so no two
    arms are liked alike, and placing on an arm never makes it more liked. `criteria` name what
    `prefer` gives, in order; the score that is shown is `top` minus the first. `fit` is taken from
    the first for tasks with these needs; it follows from what the directory says of the arm.

    With `fair`, tenants and their sessions have their turns by weighted fair shares, and `rank`
    decides within a session only. With `sticky`, a session's tasks go where its last one went
    while there is room.
    """

    name: str
    rank: Callable[[Task, float], float]
    prefer: Callable[[Arm], Key]
    criteria: tuple[str, ...]
    fair: bool = False
    sticky: bool = False
    fit: Callable[[Arm, frozenset[str]], float] | None = None
    top: float = 0.0

    def liked(self, arm: Arm, needs: frozenset[str]) -> Key:
        """Say how much an arm with room is liked by tasks with these needs."""
        first, *rest = self.prefer(arm)
        if self.fit is not None:
            assert isinstance(first, float), "a score"
            first -= self.fit(arm, needs)
        return first, *rest

    def score(self, key: Key) -> float:
        """Say how much an arm was liked, the highest first."""
        first = key[0]
        return round(self.top - first, 4) if not isinstance(first, str) else 0.0

    def note(self, key: Key) -> str:
        """Say in words what an arm was liked by."""
        parts = zip(self.criteria, key, strict=False)
        return ", ".join(f"{name} {_said(value)}" for name, value in parts)


def _said(value: float | str) -> str:
    return value if isinstance(value, str) else f"{round(value, 4):g}"
