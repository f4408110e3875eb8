"""What this process knows of fresh tasks because it accepted them itself.

With it the end of a short attempt can be told before the ledger was asked: one statement instead
of a transaction with four round trips. The ledger is not trusted less: the statement fails when a
task does not stand as remembered.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Final

from octarm.ledger.domain.changes import Moved
from octarm.ledger.domain.news import AttemptNews, is_short
from octarm.ledger.domain.tasks import NewTask
from octarm.models.states import TaskState

# What is not remembered is read; more of them are queued than end soon.
MOST: Final = 20_000
FIRST_EVENT: Final = 3
LAST_EVENT: Final = 5


class Remembered:
    """Plain tasks that were queued and of which nothing was heard since, the newest."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._tasks: dict[str, tuple[str, str, str]] = {}

    def add(self, tasks: Sequence[NewTask]) -> None:
        """Remember tasks that were committed as queued, without a budget."""
        known = self._tasks
        for task in tasks:
            known[task.task_id] = (task.tenant, task.traceparent, task.goal)
        for task_id in list(islice(known, max(0, len(known) - self._most))):
            del known[task_id]

    def completed(self, news: Sequence[AttemptNews]) -> list[Moved]:
        """Give the transitions of successes, all of them or none, and forget these tasks."""
        found = [self._tasks.pop(item.task_id, None) for item in news]
        if None in found or any(item.attempt != 1 or not is_short(item) for item in news):
            return []
        at = datetime.now(UTC)
        return [
            Moved(
                *(item.task_id, task[0], 1, TaskState.QUEUED, TaskState.COMPLETED),
                *(FIRST_EVENT, LAST_EVENT, task[1], task[2], at),
                arm_id=item.arm_id,
                instance_id=item.instance_id,
                budgeted=False,
            )
            for item, task in zip(news, found, strict=True)
            if task is not None
        ]
