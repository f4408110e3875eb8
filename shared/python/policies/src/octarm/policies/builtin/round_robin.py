"""The arms in turn.

The waiting tasks are ordered as `priority` does: tier, priority with ageing, id.

Of the arms with room, prefer in this order:
1. the one on which a task was placed longest ago, one that never had any first;
2. the smallest id.
"""

from typing import Final

from octarm.policies.builtin import priority
from octarm.policies.builtin.policy import Builtin
from octarm.policies.queue.arm import Arm
from octarm.policies.queue.ranking import Key

CRITERIA: Final = ("last turn",)


def prefer(arm: Arm) -> Key:
    """Say how much an arm with room is liked."""
    return arm.turn, arm.facts.id


POLICY: Final = Builtin("round_robin", priority.rank, prefer, CRITERIA)
