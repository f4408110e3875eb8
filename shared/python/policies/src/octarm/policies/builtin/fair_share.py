"""Every tenant gets its share by weight, and within a tenant every session the same.

Of the waiting tasks, prefer in this order:
1. the interactive tier, to which batch tasks are promoted after a while;
2. a tenant that waited for these arms for minutes while others were served, once;
3. the tenant that has had least service by its weight, where who was idle has at most
   `catch_up` times all slots ahead of others; equal ones by name;
4. of its sessions (label `session`; tasks without one are one session) the one that has had
   least, equal ones by name;
5. within the session, as `priority` does: the most urgent with ageing, then the smallest id.

While several tenants are about, the share `keep_free` of the slots is left to those that want
less than their share.

Service is counted in slots taken. Between two tenants that always wait and may use the same
arms, service by weight differs by at most one task of each.

Of the arms with room, prefer as `priority` does: share of slots in use, cost tier, id.
"""

from typing import Final

from octarm.policies.builtin import priority
from octarm.policies.builtin.policy import Builtin

POLICY: Final = Builtin(
    "fair_share", priority.rank, priority.prefer, priority.CRITERIA, fair=True, top=1.0
)
