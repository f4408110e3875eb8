"""The hard filter: which arms may take a task, whatever a policy prefers."""

from collections.abc import Iterable
from typing import Final, NamedTuple

from octarm.policies.context import ArmFacts, TaskFacts

PLACEABLE: Final = ("online", "degraded")


class Refusal(NamedTuple):
    """Why not: a short kind to count by, and words."""

    kind: str
    why: str


def suits(task: TaskFacts, arm: ArmFacts) -> bool:
    """Whether the arm can do what the task needs, and may when the task names nothing."""
    if task.assigned_arm is not None:
        return task.assigned_arm == arm.id and task.needs <= arm.capabilities
    return task.needs <= arm.capabilities and (arm.takes_any or bool(task.needs))


def refusal(task: TaskFacts, arm: ArmFacts, *, free: int) -> Refusal | None:
    """Say why the arm cannot take the task now; None when it can.

    `free` is what is left of the arm's free slots. In this order: the task is pinned to another
    arm, the arm lacks capabilities, wants them named, is draining or offline, is too small, has no
    room.
    """
    if task.assigned_arm is not None and task.assigned_arm != arm.id:
        return Refusal("pinned", f"the task is pinned to {task.assigned_arm}")
    if missing := task.needs - arm.capabilities:
        return Refusal("incapable", f"{arm.id} lacks {', '.join(sorted(missing))}")
    if not suits(task, arm):
        return Refusal("incapable", f"{arm.id} wants one of its capabilities, or itself, named")
    if arm.status not in PLACEABLE:
        return Refusal("arm_away", f"{arm.id} is {arm.status}")
    if 0 < arm.largest < task.slots:
        why = f"{arm.id} has {arm.largest} slots at most, {task.slots} wanted"
        return Refusal("too_large", why)
    if free < task.slots:
        left = f"{max(free, 0)} of {arm.slots} slots free, {task.slots} wanted"
        return Refusal("arm_full", f"{arm.id} is full: {left}")
    if task.slots > 1 and arm.widest is not None and arm.widest < task.slots:
        most = f"no instance has {task.slots} slots free, {arm.widest} at most"
        return Refusal("arm_full", f"{arm.id} is full: {most}")
    return None


def eligible(task: TaskFacts, arms: Iterable[ArmFacts]) -> tuple[ArmFacts, ...]:
    """Give the arms that may ever take the task, whether they have room or not.

    Degraded arms count only when no arm that suits is online.
    """
    suitable = [arm for arm in arms if arm.status in PLACEABLE and suits(task, arm)]
    online = tuple(arm for arm in suitable if arm.status == "online")
    return online or tuple(suitable)
