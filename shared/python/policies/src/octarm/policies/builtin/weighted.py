"""A weighted score of fit, room, success and cost.

The waiting tasks are ordered as `priority` does: tier, priority with ageing, id.

Of the arms with room, prefer in this order:
1. the highest of 0.4 × capability fit + 0.2 × availability + 0.3 × smoothed success +
   0.1 × (1 − cost tier / 5), where the first and the sum of the others are rounded to 2⁻²⁰, about
   a millionth: such numbers add up without rounding, so equal scores are equal;
2. the smallest id.

Capability fit is the part of the arm's capabilities that the task needs, so a specialist goes
before an arm that can do everything; 0 when the task names none. Availability is the share of
free slots. Success is the arm's rate as its reporter smooths it.
"""

from typing import Final

from octarm.policies.builtin import priority
from octarm.policies.builtin.policy import Builtin
from octarm.policies.queue.arm import Arm
from octarm.policies.queue.ranking import Key

FIT, AVAILABILITY, SUCCESS, COST = 0.4, 0.2, 0.3, 0.1
TIERS_OF_COST: Final = 5
STEPS: Final = 1 << 20
CRITERIA: Final = ("score below zero",)


def fit(arm: Arm, needs: frozenset[str]) -> float:
    """Say what an arm has more by what these tasks need, 0 to 0.4."""
    part = len(needs) / len(arm.facts.capabilities) if needs else 0.0
    return round(FIT * part * STEPS) / STEPS


def prefer(arm: Arm) -> Key:
    """Say how much an arm with room is liked."""
    facts = arm.facts
    score = (
        AVAILABILITY * (1 - arm.used / arm.slots)
        + SUCCESS * arm.success
        + COST * (1 - facts.cost_tier / TIERS_OF_COST)
    )
    # A third of the time that `round` to six places takes; millions of these are asked for.
    return -round(score * STEPS) / STEPS, facts.id


POLICY: Final = Builtin("weighted", priority.rank, prefer, CRITERIA, fit=fit)
