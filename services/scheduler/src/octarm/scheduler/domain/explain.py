"""Why tasks wait, in words and counts."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from octarm.policies.queue import holds
from octarm.policies.queue.tasks import TIERS
from octarm.scheduler.domain.fleet import Fleet
from octarm.scheduler.domain.queue import ShardQueue

# Slower than one in ten minutes is no pace to guess by.
SLOWEST_PER_S: Final = 1 / 600


@dataclass(frozen=True, slots=True)
class Wait:
    """Why one task waits; `position` counts the tasks before it."""

    position: int | None
    reason: str
    arms: dict[str, str] = field(default_factory=dict)
    starts_in_s: float | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """What waits, and for what."""

    by_tier: dict[str, int]
    by_tenant: dict[str, int]
    by_capability: dict[str, int]
    blocked: dict[str, int]
    oldest_wait_s: float
    in_flight: dict[str, int]


# Only time helps these: others have their turn first, and that takes as long as it did of late.
_TURNS: Final = frozenset({"full", "turn", "concurrency"})


def why_waiting(queue: ShardQueue, task_id: str, *, now: float, per_s: float = 0.0) -> Wait:
    """Say why a task has not been placed; `now` is in Unix seconds.

    `per_s` is how many tasks were placed a second of late.
    """
    hold = holds.why_waiting(queue, task_id, now=now)
    if hold is None:
        return Wait(None, "it does not wait here: placed, ended, or not ready yet")
    starts_in_s = None
    if hold.again_at is not None:
        starts_in_s = max(hold.again_at - now, 0.0)
    elif hold.kind in _TURNS and per_s > SLOWEST_PER_S:
        starts_in_s = round((hold.position + 1) / per_s, 3)
    return Wait(hold.position, hold.reason, hold.arms, starts_in_s)


def summary(queue: ShardQueue, fleet: Fleet, *, now: float) -> Summary:
    """Count what waits; `now` is in Unix seconds."""
    by_tier = {str(name): depth for name, depth in zip(TIERS, queue.depth, strict=True) if depth}
    blocked, by_capability = Counter[str](), Counter[str]()
    for lane in queue.board.lanes():
        _, reason, _ = holds.what_holds(queue, lane.first(), now=now)
        blocked[reason] += lane.live
        for need in lane.group.task.needs:
            by_capability[need] += lane.live
    oldest = min((task.queued_at for task in queue), default=now)
    return Summary(
        by_tier=by_tier,
        by_tenant={name: count for name, count in queue.waiting.items() if count},
        by_capability=dict(by_capability),
        blocked=dict(blocked),
        oldest_wait_s=max(now - oldest, 0.0),
        in_flight={it.arm_id: len(it.flights) for it in fleet.pools.values() if it.flights},
    )
