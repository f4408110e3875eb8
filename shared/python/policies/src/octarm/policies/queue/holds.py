"""Why a task waits, as data."""

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from octarm.policies.eligibility import Refusal, eligible, refusal
from octarm.policies.queue.arm import Arm
from octarm.policies.queue.limits import Limit
from octarm.policies.queue.queue import Queue
from octarm.policies.queue.tasks import Task

Kind = Literal[
    "no_arm", "incapable", "away", "too_large", "headroom", "full", "concurrency", "rate", "turn"
]


@dataclass(frozen=True, slots=True)
class Hold:
    """What keeps a task from being placed.

    `position` counts the tasks that go before it by tier and rank; with fair shares its turn may
    come earlier. `again_at` is when time itself helps (Unix seconds); `arms` says of each arm
    why it does not take the task, or that it has room.
    """

    kind: Kind
    reason: str
    position: int
    again_at: float | None = None
    arms: dict[str, str] = field(default_factory=dict)


def why_waiting(queue: Queue, task_id: str, *, now: float) -> Hold | None:
    """Say why a task waits, in this order: its arms, its limits, its turn; None if it does not."""
    task = queue.get(task_id)
    if task is None or task.lane is None:
        return None
    mine = _order(task)
    position = sum(_order(other) < mine for other in queue)
    arms = _arms(queue, task, now)
    kind, reason, again_at = what_holds(queue, task, now=now)
    return Hold(kind, reason, position, again_at, arms)


Found = tuple[Kind, str, float | None]


def what_holds(queue: Queue, task: Task, *, now: float) -> Found:
    """Say what keeps a waiting task, and all of its lane, from being placed; when that may end."""
    return _arms_hold(queue, task, now) or _limits_hold(task, now) or _spare_holds(task) or _TURN


_SPARE: Found = ("full", "free slots are kept for tenants that want less than their share", None)
_TURN: Found = ("turn", "about to be placed", None)


def _order(task: Task) -> tuple[int, float, str]:
    return task.tier, task.rank, task.task_id


def _arms(queue: Queue, task: Task, now: float) -> dict[str, str]:
    assert task.lane is not None, "it waits"
    group, facts = task.lane.group, task.facts(now)
    said = {}
    for arm_id in sorted(queue.arms.by_id):
        arm = queue.arms.by_id[arm_id]
        refused = refusal(facts, arm.seen(), free=group.free(arm))
        said[arm_id] = "has room" if refused is None else _said(arm, refused)
    return said


def _said(arm: Arm, refused: Refusal) -> str:
    if refused.kind != "arm_full":
        return refused.why
    if arm.governor is not None and not arm.governor.open:
        return f"its provider {arm.governor.key} is out of headroom"
    if not arm.slots:
        return f"{arm.facts.id} has no live instance that takes work"
    return f"{arm.facts.id} is paused for a moment" if arm.paused_until else refused.why


def _arms_hold(queue: Queue, task: Task, now: float) -> Found | None:
    assert task.lane is not None, "it waits"
    group = task.lane.group
    if group.has_room(now):
        return None
    known = queue.arms.facts()
    if not known:
        return "no_arm", "no arm is registered", None
    facts = task.facts(now)
    pinned = f"pinned to {task.assigned_arm}: " if task.assigned_arm else ""
    members = [queue.arms.by_id[it.id] for it in eligible(facts, known)]
    if not members:
        refusals = [refusal(facts, it, free=task.slots) for it in known]
        if any(it is not None and it.kind == "arm_away" for it in refusals):
            return "away", f"{pinned}every capable arm is offline or draining", None
        return "incapable", f"{pinned}{_missing(queue, task)}", None
    if not any(arm.slots for arm in members):
        return "away", f"{pinned}no capable arm has a live instance that takes work", None
    if (most := max(arm.largest for arm in members)) < task.slots:
        needs = f"it needs {task.slots} slots, the largest capable arm has {most}"
        return "too_large", f"{pinned}{needs} in one instance", None
    closed = [it.governor for it in members if it.governor is not None and not it.governor.open]
    if any(min(arm.free, arm.largest) >= task.slots for arm in members) and closed:
        # The same until whoever asks: every task that waits for it is to say the same.
        first = min(closed, key=lambda it: (it.opens_at(now), it.key))
        at = first.opens_at(now)
        until = datetime.fromtimestamp(math.ceil(at), UTC)
        why = f"provider {first.key} is out of headroom until {until:%H:%M:%S} UTC"
        return "headroom", f"{pinned}{why}", at
    return "full", f"{pinned}every capable arm is full", None


def _missing(queue: Queue, task: Task) -> str:
    if task.assigned_arm is not None and task.assigned_arm not in queue.arms.by_id:
        return "not registered"
    if task.needs:
        return f"no arm takes it that has {', '.join(sorted(task.needs))}"
    return "every arm wants its capabilities named: say what the task needs"


def _spare_holds(task: Task) -> Found | None:
    lane = task.lane
    assert lane is not None, "it waits"
    return _SPARE if lane.asleep_at is lane.group.public else None


def _limits_hold(task: Task, now: float) -> Found | None:
    assert task.lane is not None, "it waits"
    for limit in task.lane.limits:
        if not limit.has_room(now):
            return _limit_hold(limit, now)
    return None


def _limit_hold(limit: Limit, now: float) -> Found:
    name = f"limit {limit.rule.name} of {limit.key}"
    if not limit.within_concurrency():
        return "concurrency", f"{name}: {limit.used} of {limit.rule.concurrency} run", None
    return "rate", f"{name}: {limit.rule.rate_per_s:g} a second", limit.ready_at(now)
