"""Why tasks wait, in words and counts."""

from collections import Counter
from dataclasses import dataclass, field

from octarm.policies.queue import holds
from octarm.policies.queue.tasks import TIERS
from octarm.scheduler.domain.fleet import Fleet
from octarm.scheduler.domain.queue import ShardQueue


@dataclass(frozen=True, slots=True)
class Wait:
    """Why one task waits; `position` counts the tasks before it."""

    position: int | None
    reason: str
    arms: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Summary:
    """What waits, and for what."""

    by_tier: dict[str, int]
    by_tenant: dict[str, int]
    blocked: dict[str, int]
    oldest_wait_s: float
    in_flight: dict[str, int]


def why_waiting(queue: ShardQueue, task_id: str, *, now: float) -> Wait:
    """Say why a task has not been placed; `now` is in Unix seconds."""
    hold = holds.why_waiting(queue, task_id, now=now)
    if hold is None:
        return Wait(None, "it does not wait here: placed, ended, or not ready yet")
    return Wait(hold.position, hold.reason, hold.arms)


def summary(queue: ShardQueue, fleet: Fleet, *, now: float) -> Summary:
    """Count what waits; `now` is in Unix seconds."""
    by_tier = {str(name): depth for name, depth in zip(TIERS, queue.depth, strict=True) if depth}
    blocked = Counter[str]()
    for lane in queue.board.lanes():
        _, reason, _ = holds.what_holds(queue, lane.first(), now=now)
        blocked[reason] += lane.live
    oldest = min((task.queued_at for task in queue), default=now)
    return Summary(
        by_tier=by_tier,
        by_tenant={name: count for name, count in queue.waiting.items() if count},
        blocked=dict(blocked),
        oldest_wait_s=max(now - oldest, 0.0),
        in_flight={it.arm_id: len(it.flights) for it in fleet.pools.values() if it.flights},
    )
