"""The cheapest arm that has room.

The waiting tasks are ordered as `priority` does: tier, priority with ageing, id.

Of the arms with room, prefer in this order:
1. the cheapest tier;
2. the smallest share of slots in use, in the steps of `priority`;
3. the smallest id.

It does not wait for a cheap arm while a dear one has room; the example policy
`cost_optimiser` does where deadlines allow.
"""

from typing import Final

from octarm.policies.builtin import priority
from octarm.policies.builtin.policy import Builtin
from octarm.policies.queue.arm import Arm
from octarm.policies.queue.ranking import Key

CRITERIA: Final = ("cost tier", "share of slots in use")


def prefer(arm: Arm) -> Key:
    """Say how much an arm with room is liked."""
    return arm.facts.cost_tier, priority.share(arm), arm.facts.id


POLICY: Final = Builtin("cheapest", priority.rank, prefer, CRITERIA)
