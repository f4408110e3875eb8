"""The default: tier, priority with ageing, arrival; the least busy arm.

Of the waiting tasks, prefer in this order:
1. the interactive tier, to which batch tasks are promoted after a while;
2. the most urgent priority, where each `ageing_s` of waiting count for one step – both sides of
   a comparison age alike, so the rank never changes while a task waits;
3. the smallest task id, which follows the time of creation.

Of the arms with room, prefer in this order:
1. the smallest share of slots in use;
2. the cheapest tier;
3. the smallest id, so that equal arms always sort the same way.
"""

from typing import Final

from octarm.policies.builtin.policy import Builtin
from octarm.policies.queue.arms import Arm
from octarm.policies.queue.groups import Key
from octarm.policies.queue.tasks import Task

CRITERIA: Final = ("share of slots in use", "cost tier")


def rank(task: Task, ageing_s: float) -> float:
    """Say how early a task goes within its tier."""
    return task.priority * ageing_s + task.queued_at


def prefer(arm: Arm, needs: frozenset[str]) -> Key:
    """Say how much an arm with room is liked."""
    return arm.used / arm.slots, arm.facts.cost_tier, arm.facts.id


POLICY: Final = Builtin("priority", rank, prefer, CRITERIA, top=1.0)
