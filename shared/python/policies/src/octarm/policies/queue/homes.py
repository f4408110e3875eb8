"""Where the last task of each session went."""

from typing import Final

from octarm.policies.queue.tasks import Task

MOST: Final = 100_000


class Homes:
    """The arm of each session's last task; the session that was silent longest is forgotten."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._arms: dict[tuple[str, str], str] = {}

    def of(self, task: Task) -> str | None:
        """Give the id of the arm of the task's session."""
        return self._arms.get((task.tenant, task.session)) if task.session else None

    def note(self, task: Task, arm_id: str) -> None:
        """Take that a task was placed."""
        if task.session:
            self._arms.pop((task.tenant, task.session), None)
            self._arms[task.tenant, task.session] = arm_id
            if len(self._arms) > self._most:
                del self._arms[next(iter(self._arms))]
