"""The figures of one simulated policy: the same seed gives the same bytes."""

from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Struct

from octarm.policies.simulator.tally import Stream, Tally, jain, percentile


class Waits(Struct, frozen=True):
    """Counts and waits of some tasks; seconds."""

    arrived: int
    completed: int
    failed: int
    rejected: int
    overdue: int
    starved: int
    wait_p50_s: float
    wait_p95_s: float
    wait_max_s: float
    deadline_hit_rate: float | None


class Outcome(Struct, frozen=True):
    """What one policy made of a load; cost is micro-dollars, `left` never ended.

    `fairness` is Jain's index over tenants of the tasks that each had running, by its weight,
    while it and another tenant had tasks waiting. `starved` counts tasks that waited longer than
    the load's `starved_after_s`, placed at last or not.
    """

    policy: str
    load: str
    seed: int
    makespan_s: float
    placed: int
    retried: int
    left: int
    cycles: int
    promoted: int
    utilisation: float
    cost: float
    fairness: float
    dropped_actions: dict[str, int]
    script_errors: int
    first_error: str
    total: Waits
    by_tier: dict[str, Waits]
    by_tenant: dict[str, Waits]
    by_arm: dict[str, float]
    samples: dict[str, list[float]]


def waits(streams: Iterable[Stream]) -> Waits:
    """Sum up some streams."""
    found = list(streams)
    ordered = sorted(wait for stream in found for wait in stream.waits_s)
    with_deadline = sum(stream.with_deadline for stream in found)
    in_time = sum(stream.in_time for stream in found)
    return Waits(
        arrived=sum(stream.arrived for stream in found),
        completed=sum(stream.completed for stream in found),
        failed=sum(stream.failed for stream in found),
        rejected=sum(stream.rejected for stream in found),
        overdue=sum(stream.overdue for stream in found),
        starved=sum(stream.starved for stream in found),
        wait_p50_s=round(percentile(ordered, 50), 6),
        wait_p95_s=round(percentile(ordered, 95), 6),
        wait_max_s=round(ordered[-1], 6) if ordered else 0.0,
        deadline_hit_rate=round(in_time / with_deadline, 6) if with_deadline else None,
    )


def outcome(
    tally: Tally, *, policy: str, load: str, seed: int, makespan_s: float, left: int
) -> Outcome:
    """Sum up a run."""
    streams = tally.streams
    tenants = sorted({tenant for _, tenant in streams})
    slots = sum(tally.slots)
    shares = [use / tally.fair_samples[name] for name, use in sorted(tally.fair_use.items())]
    return Outcome(
        policy=policy,
        load=load,
        seed=seed,
        makespan_s=round(makespan_s, 6),
        placed=tally.placed,
        retried=tally.retried,
        left=left,
        cycles=tally.cycles,
        promoted=tally.promoted,
        utilisation=round(sum(tally.used) / slots, 6) if slots else 0.0,
        cost=round(tally.cost, 3),
        fairness=round(jain(shares), 6),
        dropped_actions=dict(sorted(tally.dropped_actions.items())),
        script_errors=tally.script_errors,
        first_error=tally.first_error,
        total=waits(streams.values()),
        by_tier={
            tier: waits(it for (its, _), it in streams.items() if its == tier)
            for tier in ("interactive", "batch")
            if any(its == tier for its, _ in streams)
        },
        by_tenant={
            tenant: waits(it for (_, its), it in streams.items() if its == tenant)
            for tenant in tenants
        },
        by_arm={arm: round(busy, 3) for arm, busy in sorted(tally.busy_s.items())},
        samples=_samples(tally),
    )


def _samples(tally: Tally) -> dict[str, list[float]]:
    return {
        "time_s": [round(at, 6) for at in tally.times_s],
        "queued": list(map(float, tally.depths)),
        "slots_used": list(map(float, tally.used)),
    }


def to_json(outcomes: Sequence[Outcome]) -> bytes:
    """Give outcomes as JSON, byte for byte the same for the same outcomes."""
    text = msgspec.json.encode(list(outcomes), order="deterministic")
    return msgspec.json.format(text, indent=2) + b"\n"
