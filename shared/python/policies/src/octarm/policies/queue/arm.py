"""One arm as placing sees it: facts of the directory, slots in use, what it has told of late."""

from typing import TYPE_CHECKING

import msgspec

from octarm.policies.context import ArmFacts, InstanceFacts, Observed

if TYPE_CHECKING:
    from octarm.policies.queue.governors import Governor
    from octarm.policies.queue.groups import Group
    from octarm.policies.queue.ranking import Ranked


class Arm:
    """One arm; `free` is never negative, `turn` is the number of the last placing on it.

    `largest` is how many slots its largest instance has, `widest` how many of one instance were
    free when last heard of: what wants several slots wants them of one instance. `load`,
    `latency_s` and `success` are as reported last; who reports smooths `success`. `kept` is how
    many slots are for tenants that want less than their share. `room` is what is free for tasks of
    one slot: nothing of an arm that is reserved.
    """

    __slots__ = (
        "entry",
        "facts",
        "free",
        "governor",
        "groups",
        "kept",
        "largest",
        "latency_s",
        "load",
        "paused_until",
        "reserved",
        "room",
        "slots",
        "success",
        "turn",
        "used",
        "version",
        "widest",
    )

    def __init__(self, facts: ArmFacts) -> None:
        self.facts = facts
        self.governor: Governor | None = None
        self.slots = 0
        self.kept = 0
        self.largest = 0
        self.widest = 0
        self.used = 0
        self.free = 0
        self.room = 0
        self.load = 0.0
        self.latency_s = 0.0
        self.success = 1.0
        self.turn = 0
        self.version = 0
        self.paused_until = 0.0
        self.reserved: Group | None = None
        self.entry: Ranked = (-1, self)
        self.groups: dict[Group, None] = {}

    def recount(self) -> None:
        """Note that it has changed, and how much of it is free now."""
        self.version += 1
        free = self.slots - self.used
        self.free = free = free if free > 0 and not self.paused_until else 0
        self.room = free if self.reserved is None else 0

    def seen(
        self,
        *,
        instances: tuple[InstanceFacts, ...] = (),
        heartbeat_age_ms: int = 0,
        observed: dict[str, Observed] | None = None,
    ) -> ArmFacts:
        """Give what a policy sees of it."""
        closed = self.reserved is not None or (self.governor is not None and not self.governor.open)
        return msgspec.structs.replace(
            self.facts,
            slots=self.slots,
            largest=self.largest,
            widest=min(self.widest, self.largest, self.free),
            free=0 if closed else self.free,
            running=self.used,
            load=self.load,
            avg_latency_ms=self.latency_s * 1000,
            success_rate=self.success,
            instances=instances,
            heartbeat_age_ms=heartbeat_age_ms,
            observed=observed or {},
        )
