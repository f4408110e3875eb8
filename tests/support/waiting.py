"""Queues to place from, and the plain way to place, to compare with."""

from collections.abc import Iterable

from octarm.policies.builtin import BUILTIN
from octarm.policies.context import ArmFacts, ArmStatus
from octarm.policies.eligibility import eligible, refusal
from octarm.policies.queue.arm import Arm
from octarm.policies.queue.arms import Arms
from octarm.policies.queue.cycle import Decision, place
from octarm.policies.queue.governors import ProviderLimits
from octarm.policies.queue.homes import Homes
from octarm.policies.queue.limits import LimitRule, Limits
from octarm.policies.queue.queue import Queue, Rules
from octarm.policies.queue.shares import Shares
from octarm.policies.queue.tasks import Task

NOW = 1_000.0


def a_task(
    task_id: str = "t-1", *, needs: str = "", labels: dict[str, str] | None = None, **given: object
) -> Task:
    """A task that waits since `NOW`; `needs` are separated by blanks."""
    facts = {"queued_at": NOW, "needs": frozenset(needs.split()), "labels": labels, **given}
    return Task(task_id, **facts)  # type: ignore[arg-type]


def an_arm(
    arms: Arms,
    arm_id: str = "a-1",
    capabilities: str = "",
    *,
    slots: int = 1,
    status: ArmStatus = "online",
    cost_tier: int = 1,
    takes_any: bool = True,
    labels: dict[str, str] | None = None,
    load: float = 0.0,
    latency_s: float = 0.0,
    success: float = 1.0,
) -> Arm:
    """An arm that is in the directory and has reported itself."""
    facts = ArmFacts(
        arm_id,
        status,
        frozenset(capabilities.split()),
        cost_tier,
        labels=labels or {},
        takes_any=takes_any,
    )
    arm = arms.learn(facts, now=NOW)
    arms.report(arm, slots=slots, load=load, latency_s=latency_s, success=success)
    return arm


def a_queue(
    policy: str = "priority",
    *,
    rules: Rules | None = None,
    weights: dict[str, float] | None = None,
    limits: Iterable[LimitRule] = (),
    providers: Iterable[ProviderLimits] = (),
) -> Queue:
    """An empty queue without arms."""
    builtin = BUILTIN[policy]
    arms = Arms(builtin.prefer, fit=builtin.fit, providers=providers)
    return Queue(builtin, arms, rules=rules, shares=Shares(weights), limits=Limits(limits))


def placed(
    queue: Queue, now: float = NOW, *, window: int = 256, homes: Homes | None = None
) -> list[Decision]:
    """Run one cycle as the scheduler does."""
    queue.tick(now)
    return place(queue, homes or Homes(), now=now, window=window)


def pairs(decisions: Iterable[Decision]) -> list[tuple[str, str]]:
    """Give which task went where."""
    return [(it.task.task_id, it.arm.facts.id) for it in decisions]


def choices(queue: Queue, task: Task, now: float) -> list[Arm]:
    """Give the arms that may take a task now, found by looking at every arm."""
    lane = task.lane
    assert lane is not None, "it waits"
    if not all(limit.has_room(now) for limit in lane.limits):
        return []
    facts = task.facts(now)
    allowed = {it.id for it in eligible(facts, queue.arms.facts())}
    return [
        arm
        for arm in queue.arms.by_id.values()
        if arm.facts.id in allowed and refusal(facts, arm.facts, free=lane.group.free(arm)) is None
    ]


def plainly_next(queue: Queue, now: float) -> tuple[str, str] | None:
    """Give what a policy without shares places next, found by looking at every task and arm."""
    for task in sorted(queue, key=lambda task: (task.tier, task.rank, task.task_id)):
        if arms := choices(queue, task, now):
            best = min(arms, key=lambda arm: queue.policy.liked(arm, task.needs))
            return task.task_id, best.facts.id
    return None
