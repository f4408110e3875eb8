"""The hard filter: which arms may ever take a task, whatever the policy prefers."""

from collections.abc import Iterable
from typing import Final

from octarm.scheduler.domain.fleet import Arm

PLACEABLE: Final = ("online", "degraded")


def refusal(arm: Arm, needs: frozenset[str], assigned_arm: str | None) -> str:
    """Say why the arm cannot take tasks with these needs now; empty when it can.

    In this order: it is not the pinned arm, is not registered, lacks capabilities, wants them
    named, is draining or offline, has no live instance, is paused, is full.
    """
    if assigned_arm is not None and arm.arm_id != assigned_arm:
        return f"the task is pinned to {assigned_arm}"
    if arm.facts is None:
        return "not registered"
    if missing := needs - arm.facts.capabilities:
        return f"lacks {', '.join(sorted(missing))}"
    if not arm.facts.suits(needs, assigned_arm):
        return "takes only tasks that name one of its capabilities, or itself"
    if arm.facts.status not in PLACEABLE:
        return arm.facts.status
    if not arm.slots:
        return "no live instance that takes work"
    if arm.paused_until:
        return "paused after a failed dispatch"
    return "" if arm.free else f"full: {len(arm.flights)} of {arm.slots} slots in use"


def eligible(
    arms: Iterable[Arm], needs: frozenset[str], assigned_arm: str | None
) -> tuple[Arm, ...]:
    """Give the arms that may take tasks with these needs, whether they have room or not.

    1. A pinned arm is the only one, and nothing ever takes its place.
    2. The arm is registered and has every capability; a task that names none suits only arms
       that take any.
    3. It is online; degraded arms count only when no capable arm is online.
    """
    capable = [
        arm
        for arm in arms
        if arm.facts is not None
        and (assigned_arm is None or arm.arm_id == assigned_arm)
        and arm.facts.status in PLACEABLE
        and arm.facts.suits(needs, assigned_arm)
    ]
    online = tuple(arm for arm in capable if arm.facts is not None and arm.facts.status == "online")
    return online or tuple(capable)
