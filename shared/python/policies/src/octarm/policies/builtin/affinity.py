"""The tasks of a session go to one arm, whose caches are warm, while it has room.

The waiting tasks are ordered as `priority` does: tier, priority with ageing, id.

Of the arms with room, prefer in this order:
1. the arm to which the last task of the same session (label `session`) went;
2. the smallest share of slots in use;
3. the cheapest tier;
4. the smallest id.

When the session's arm is full its tasks go elsewhere rather than wait, and the session with
them.
"""

from typing import Final

from octarm.policies.builtin import priority
from octarm.policies.builtin.policy import Builtin

POLICY: Final = Builtin(
    "affinity", priority.rank, priority.prefer, priority.CRITERIA, sticky=True, top=1.0
)
