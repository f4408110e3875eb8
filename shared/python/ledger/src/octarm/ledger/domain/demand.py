"""How much work there is for an arm."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from octarm.models.scaling import ArmDemand, GetDemand


@dataclass(frozen=True, slots=True)
class Queued:
    """Tasks that are queued and want the same; `slots` are those of all of them."""

    assigned_arm: str | None
    needs: frozenset[str]
    slots: int


@dataclass(frozen=True, slots=True)
class Work:
    """All that is queued, and the slots that each arm's attempts take."""

    queued: tuple[Queued, ...]
    running: Mapping[str, int]
    capped: bool = False


def fits(task: Queued, arm: GetDemand) -> bool:
    """Tell whether an arm can do what a task needs: the scheduler's hard filter.

    An arm's status plays no part: one that has no instances is to get some.
    """
    if task.assigned_arm is not None and task.assigned_arm != arm.arm_id:
        return False
    if task.assigned_arm is None and not task.needs and not arm.takes_any:
        return False
    return task.needs <= set(arm.capabilities)


def demand_of(arm: GetDemand, work: Work) -> ArmDemand:
    """Add up what there is for an arm."""
    return ArmDemand(
        arm_id=arm.arm_id,
        runnable_slots=_total(work.queued, arm),
        running_slots=work.running.get(arm.arm_id, 0),
        capped=work.capped,
    )


def _total(queued: Iterable[Queued], arm: GetDemand) -> int:
    return sum(task.slots for task in queued if fits(task, arm))
