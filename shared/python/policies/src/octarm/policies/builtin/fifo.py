"""First come, first served.

Of the waiting tasks, prefer in this order:
1. the interactive tier, to which batch tasks are promoted after a while;
2. the one that was queued first, whatever its priority;
3. the smallest task id.

Of the arms with room, prefer as `priority` does: share of slots in use, cost tier, id.
"""

from typing import Final

from octarm.policies.builtin import priority
from octarm.policies.builtin.policy import Builtin
from octarm.policies.queue.tasks import Task


def rank(task: Task, ageing_s: float) -> float:
    """Say how early a task goes within its tier."""
    return task.queued_at


POLICY: Final = Builtin("fifo", rank, priority.prefer, priority.CRITERIA, top=1.0)
