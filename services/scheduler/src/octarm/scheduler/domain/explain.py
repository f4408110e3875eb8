"""Why tasks wait, in words and counts."""

from collections import Counter
from dataclasses import dataclass

from octarm.scheduler.domain.eligibility import refusal
from octarm.scheduler.domain.fleet import Fleet
from octarm.scheduler.domain.groups import Group
from octarm.scheduler.domain.queue import QueueView
from octarm.scheduler.domain.tasks import TIERS, QueuedTask

PLACEABLE = "about to be placed"


@dataclass(frozen=True, slots=True)
class Wait:
    """Why one task waits; `position` counts the tasks before it."""

    position: int | None
    reason: str
    arms: dict[str, str]


@dataclass(frozen=True, slots=True)
class Summary:
    """What waits, and for what."""

    by_tier: dict[str, int]
    by_tenant: dict[str, int]
    blocked: dict[str, int]
    oldest_wait_s: float
    in_flight: dict[str, int]


def blocking_reason(group: Group, fleet: Fleet) -> str:
    """Say what the tasks of a group wait for."""
    if group.assigned_arm is not None:
        arm = fleet.arms.get(group.assigned_arm)
        why = "not registered" if arm is None else refusal(arm, group.needs, group.assigned_arm)
        return f"pinned to {group.assigned_arm}: {why}" if why else PLACEABLE
    known = [arm for arm in fleet.arms.values() if arm.facts is not None]
    capable = [
        arm
        for arm in known
        if arm.facts is not None and arm.facts.suits(group.needs, group.assigned_arm)
    ]
    if not known:
        return "no arm is registered"
    if not capable and not group.needs:
        return "every arm wants its capabilities named: say what the task needs"
    if not capable:
        return f"no arm has {', '.join(sorted(group.needs))}"
    reasons = [refusal(arm, group.needs, None) for arm in capable]
    if "" in reasons:
        return PLACEABLE
    if any(reason.startswith("full") for reason in reasons):
        return "every capable arm is full"
    return "every capable arm is offline, draining or silent"


def why_waiting(queue: QueueView, fleet: Fleet, task_id: str) -> Wait:
    """Say why a task has not been placed."""
    task = queue.get(task_id)
    if task is None:
        return Wait(None, "it does not wait here: placed, ended, or not ready yet", {})
    group = task.group
    assert group is not None, "it waits"
    arms = {
        arm.arm_id: refusal(arm, group.needs, group.assigned_arm) or "has room"
        for arm in sorted(fleet.arms.values(), key=lambda arm: arm.arm_id)
        if arm.facts is not None
    }
    mine = _order(task)
    position = sum(_order(other) < mine for other in queue)
    return Wait(position, blocking_reason(group, fleet), arms)


def summary(queue: QueueView, fleet: Fleet, *, now: float) -> Summary:
    """Count what waits; `now` is in Unix seconds."""
    by_tier, by_tenant, blocked = Counter[str](), Counter[str](), Counter[str]()
    for task in queue:
        by_tier[TIERS[task.tier]] += 1
        by_tenant[task.ready.tenant] += 1
    for group in queue.groups():
        blocked[blocking_reason(group, fleet)] += len(group)
    oldest = min((task.queued_at for task in queue), default=now)
    in_flight = {arm.arm_id: len(arm.flights) for arm in fleet.arms.values() if arm.flights}
    return Summary(dict(by_tier), dict(by_tenant), dict(blocked), max(now - oldest, 0.0), in_flight)


def _order(task: QueuedTask) -> tuple[int, float, str]:
    return task.tier, task.rank, task.task_id
