"""Earliest deadline first.

Of the waiting tasks, prefer in this order:
1. the interactive tier, to which batch tasks are promoted after a while;
2. the earliest deadline; a task without one counts as due `PATIENCE_S` after it was queued, so
   that it goes at last before deadlines that are further away;
3. the smallest task id.

Of the arms with room, prefer in this order:
1. the one that answered fastest of late, in classes of tenths of a second;
2. the smallest share of slots in use, in the steps of `priority`;
3. the cheapest tier;
4. the smallest id.
"""

from typing import Final

from octarm.policies.builtin import priority
from octarm.policies.builtin.policy import Builtin
from octarm.policies.queue.arm import Arm
from octarm.policies.queue.ranking import Key
from octarm.policies.queue.tasks import Task

PATIENCE_S: Final = 600.0
CRITERIA: Final = ("latency in 0.1 s", "share of slots in use", "cost tier")


def rank(task: Task, ageing_s: float) -> float:
    """Say how early a task goes within its tier."""
    return task.queued_at + PATIENCE_S if task.deadline is None else task.deadline


def prefer(arm: Arm) -> Key:
    """Say how much an arm with room is liked."""
    return (
        round(arm.latency_s * 10),
        priority.share(arm),
        arm.facts.cost_tier,
        arm.facts.id,
    )


POLICY: Final = Builtin("deadline", rank, prefer, CRITERIA)
