"""The arm with the least to do, as it says itself and as its slots show.

The waiting tasks are ordered as `priority` does: tier, priority with ageing, id.

Of the arms with room, prefer in this order:
1. the smallest load: the reported one, or the share of slots in use if that is larger;
2. the smallest share of slots in use;
3. the one that answered fastest of late;
4. the smallest id.
"""

from typing import Final

from octarm.policies.builtin import priority
from octarm.policies.builtin.policy import Builtin
from octarm.policies.queue.arm import Arm
from octarm.policies.queue.ranking import Key

CRITERIA: Final = ("load", "share of slots in use", "latency in s")


def prefer(arm: Arm) -> Key:
    """Say how much an arm with room is liked."""
    share = arm.used / arm.slots
    return max(arm.load, share), share, arm.latency_s, arm.facts.id


POLICY: Final = Builtin("least_loaded", priority.rank, prefer, CRITERIA, top=1.0)
