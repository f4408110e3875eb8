"""The default: tier, priority with ageing, arrival; the least busy arm.

Of the waiting tasks, prefer in this order:
1. the interactive tier, to which batch tasks are promoted after a while;
2. the most urgent priority, where each `ageing_s` of waiting count for one step – both sides of
   a comparison age alike, so the rank never changes while a task waits;
3. the smallest task id, which follows the time of creation.

Of the arms with room, prefer in this order:
1. the smallest share of slots in use. Where attempts take less than `SHORT_S`, this counts in
   steps: a quarter of the arm's slots, or as many as it gets through in `TOGETHER_S` even one
   after another, if those are more. What is over at once travels together; longer work, and
   that of arms that have not ended any yet, is spread slot by slot;
2. the cheapest tier;
3. the smallest id, so that equal arms always sort the same way.
"""

from typing import Final

from octarm.policies.builtin.policy import Builtin
from octarm.policies.queue.arm import Arm
from octarm.policies.queue.ranking import Key
from octarm.policies.queue.tasks import Task

CRITERIA: Final = ("share of slots in use", "cost tier")
SHORT_S: Final = 1.0
TOGETHER_S: Final = 0.25
SHORTEST_S: Final = 1e-4
QUARTERS: Final = 4


def rank(task: Task, ageing_s: float) -> float:
    """Say how early a task goes within its tier."""
    return task.priority * ageing_s + task.queued_at


def share(arm: Arm) -> float:
    """Give the share of slots in use; of an arm with short attempts in steps.

    A latency of 0 is one that nobody has measured yet.
    """
    used, latency_s = arm.used, arm.latency_s
    if 0 < latency_s < SHORT_S:
        at_once = TOGETHER_S // max(latency_s, SHORTEST_S)
        used -= int(used % max(at_once, arm.slots // QUARTERS, 1))
    return used / arm.slots


def prefer(arm: Arm) -> Key:
    """Say how much an arm with room is liked."""
    return share(arm), arm.facts.cost_tier, arm.facts.id


POLICY: Final = Builtin("priority", rank, prefer, CRITERIA, top=1.0)
