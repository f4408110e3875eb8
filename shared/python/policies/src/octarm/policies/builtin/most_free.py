"""The arm with the most free slots, however many it has.

The waiting tasks are ordered as `priority` does: tier, priority with ageing, id.

Of the arms with room, prefer in this order:
1. the most free slots;
2. the cheapest tier;
3. the smallest id.
"""

from typing import Final

from octarm.policies.builtin import priority
from octarm.policies.builtin.policy import Builtin
from octarm.policies.queue.arm import Arm
from octarm.policies.queue.ranking import Key

CRITERIA: Final = ("slots in use less slots", "cost tier")


def prefer(arm: Arm) -> Key:
    """Say how much an arm with room is liked."""
    return arm.used - arm.slots, arm.facts.cost_tier, arm.facts.id


POLICY: Final = Builtin("most_free", priority.rank, prefer, CRITERIA)
