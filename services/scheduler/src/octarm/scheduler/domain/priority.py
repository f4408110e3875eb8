"""The default policy, `priority`."""

from typing import Final

from octarm.scheduler.domain.fleet import Arm

NAME: Final = "priority"


def rank(priority: int, queued_at: float, *, ageing_s: float) -> float:
    """Say how early a task goes within its tier; the smallest goes first.

    Of the waiting tasks, prefer in this order:
    1. the interactive tier, to which batch tasks are promoted after a while;
    2. the most urgent priority, where each `ageing_s` seconds of waiting count for one step
       – both sides of a comparison age alike, so the rank never changes while a task waits;
    3. the smallest task id, which follows the time of creation.
    """
    return priority * ageing_s + queued_at


def preference(arm: Arm) -> tuple[float, int, str]:
    """Say how much an arm with room is liked; the smallest is taken.

    Prefer in this order:
    1. the smallest share of slots in use;
    2. the cheapest tier;
    3. the smallest id, so that equal arms always sort the same way.
    """
    cost_tier = 0 if arm.facts is None else arm.facts.cost_tier
    return len(arm.flights) / arm.slots, cost_tier, arm.arm_id
