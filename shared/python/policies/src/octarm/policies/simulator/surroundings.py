"""What a load says about arms, tenants, limits and providers, made into the real things."""

from octarm.policies.builtin.policy import Builtin
from octarm.policies.context import ArmFacts
from octarm.policies.queue.arm import Arm
from octarm.policies.queue.arms import Arms
from octarm.policies.queue.governors import ProviderLimits
from octarm.policies.queue.limits import LimitRule, Limits
from octarm.policies.queue.queue import Queue, Rules
from octarm.policies.queue.shares import Shares
from octarm.policies.queue.tasks import Task
from octarm.policies.simulator.load import ArmPool, Load


class Place:
    """An arm, the pool it is of, and what its attempts have told of late."""

    __slots__ = ("arm", "heard", "latency_s", "pool", "success")

    def __init__(self, arm: Arm, pool: ArmPool) -> None:
        self.arm = arm
        self.pool = pool
        self.latency_s = 0.0
        self.success = 1.0
        self.heard = False

    def costs(self, task: Task, work_s: float) -> tuple[float, float]:
        """Say what an attempt takes here, in seconds, and costs, in micro-dollars."""
        took_s = work_s / self.pool.speed
        return took_s, self.pool.cost_per_task + self.pool.cost_per_s * took_s * task.slots


def queue_of(load: Load, policy: Builtin) -> Queue:
    """Give the empty queue of a load, without arms."""
    providers = [
        ProviderLimits(it.key, it.requests_per_minute, it.tokens_per_minute)
        for it in load.providers
    ]
    rules = [
        LimitRule(it.name, it.key, it.concurrency, it.rate_per_s, it.burst) for it in load.limits
    ]
    return Queue(
        policy,
        Arms(policy.prefer, fit=policy.fit, providers=providers),
        rules=Rules(**load.queue.model_dump()),
        shares=Shares({it.name: it.weight for it in load.tenants}),
        limits=Limits(
            rules, running={it.name: it.running for it in load.tenants if it.running is not None}
        ),
    )


def _names(pool: ArmPool) -> list[str]:
    return [pool.id] if pool.count == 1 else [f"{pool.id}-{n + 1}" for n in range(pool.count)]


def places_of(load: Load, arms: Arms) -> dict[str, Place]:
    """Let all arms of a load register and report themselves; gives them by id."""
    places = {}
    for pool in load.arms:
        for name in _names(pool):
            facts = ArmFacts(
                name,
                capabilities=pool.capabilities,
                cost_tier=pool.cost_tier,
                labels=pool.labels,
                takes_any=pool.takes_any,
            )
            arm = arms.learn(facts, now=0.0)
            arms.report(arm, slots=pool.slots)
            places[name] = Place(arm, pool)
    return places


def outages_of(load: Load) -> list[tuple[float, str, bool]]:
    """Give when which arm goes offline (False) or comes back, in order."""
    return sorted(
        (at_s, name, online)
        for pool in load.arms
        for name in _names(pool)
        for from_s, to_s in pool.offline_s
        for at_s, online in ((from_s, False), (to_s, True))
    )
