"""Contexts to try a policy on before it meets a real one."""

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Final

from octarm.policies.context import (
    WINDOW,
    ArmFacts,
    Context,
    InstanceFacts,
    Metrics,
    TaskFacts,
    TenantFacts,
    TenantLimits,
)

NOW_MS: Final = 1_767_225_600_000
_TAGS: Final = ("code", "search", "llm/small", "llm/large")
_REGIONS: Final = ("eu", "us")


@cache
def samples() -> Mapping[str, Context]:
    """Give contexts by name: nothing at all, no arms, few of everything, and a full window.

    Between them every field takes each kind of value that it can have: absent deadlines, pins,
    sessions, limits, arms without slots or instances, of every status.
    """
    return MappingProxyType(
        {
            "empty": Context(NOW_MS),
            "no arms": Context(NOW_MS, tuple(_task(n) for n in range(8))),
            "few": _context(tasks=12, arms=8),
            "full window": _context(tasks=WINDOW, arms=200),
        }
    )


def _context(*, tasks: int, arms: int) -> Context:
    fleet = tuple(_arm(n) for n in range(arms))
    free = sum(arm.free for arm in fleet)
    return Context(
        NOW_MS,
        tuple(_task(n) for n in range(tasks)),
        fleet,
        tenants={
            "acme": TenantFacts("acme", weight=2.0, running=3, spent_today=5_000),
            "beta": TenantFacts(
                "beta", running=1, limits=TenantLimits(running=20, cost_per_day=10_000_000)
            ),
        },
        metrics=Metrics(queue_depth=tasks, arms=arms, slots_free=free),
        cycle=7,
    )


def _task(n: int) -> TaskFacts:
    wait_ms = n * 900
    return TaskFacts(
        f"tsk_{n:026d}",
        tenant=("acme", "beta", "gamma")[n % 3],
        session=f"ses-{n % 5}" if n % 2 else "",
        tier="batch" if n % 4 == 3 else "interactive",
        priority=1 + n % 10,
        needs=frozenset(_TAGS[n % 5 : n % 5 + 1]),
        labels={"region": _REGIONS[n % 2]} if n % 3 else {},
        queued_at=NOW_MS - wait_ms,
        wait_ms=wait_ms,
        attempt=1 + n % 3,
        deadline_ms=NOW_MS + 500 * (n + 1) if n % 3 == 0 else None,
        est_ms=100 * (n % 7),
        est_cost=1_000 * (n % 4),
        slots=2 if n % 11 == 10 else 1,
        assigned_arm=f"arm-{n:04d}" if n % 13 == 12 else None,
    )


def _arm(n: int) -> ArmFacts:
    idle, busy = InstanceFacts(f"arm-{n:04d}-a", slots=4), InstanceFacts(f"arm-{n:04d}-b", slots=4)
    slots = 0 if n % 8 == 7 else 8
    running = n % 5 if slots else 0
    return ArmFacts(
        f"arm-{n:04d}",
        status=("online", "online", "online", "degraded", "draining", "offline")[n % 6],
        capabilities=frozenset({_TAGS[n % 4], _TAGS[(n + 1) % 4]}),
        cost_tier=1 + n % 5,
        slots=slots,
        free=slots - running,
        running=running,
        load=running / 8,
        avg_latency_ms=100.0 * (n % 9),
        success_rate=1.0 - 0.05 * (n % 4),
        heartbeat_age_ms=n % 5_000,
        labels={"region": _REGIONS[n % 2]} if n % 4 else {},
        takes_any=n % 5 != 4,
        instances=(idle, busy) if slots else (),
        largest=4 if slots else 0,
        widest=4 if slots else None,
    )
