"""What is counted while a simulation runs."""

from array import array
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from octarm.policies.queue.tasks import TIERS


@dataclass(slots=True)
class Stream:
    """The tasks of one tenant in one tier; waits are seconds from arrival to the first placing."""

    arrived: int = 0
    completed: int = 0
    failed: int = 0
    rejected: int = 0
    overdue: int = 0
    starved: int = 0
    with_deadline: int = 0
    in_time: int = 0
    waits_s: "array[float]" = field(default_factory=lambda: array("d"))


@dataclass(slots=True)
class Tally:
    """Everything that is counted; money is micro-dollars."""

    streams: dict[tuple[str, str], Stream] = field(default_factory=dict)
    placed: int = 0
    cycles: int = 0
    promoted: int = 0
    retried: int = 0
    cost: float = 0.0
    busy_s: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    dropped_actions: Counter[str] = field(default_factory=Counter)
    script_errors: int = 0
    first_error: str = ""
    fair_use: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    fair_samples: Counter[str] = field(default_factory=Counter)
    times_s: "array[float]" = field(default_factory=lambda: array("d"))
    depths: "array[int]" = field(default_factory=lambda: array("l"))
    used: "array[int]" = field(default_factory=lambda: array("l"))
    slots: "array[int]" = field(default_factory=lambda: array("l"))

    def stream(self, tier: int, tenant: str) -> Stream:
        """Give the counters of a tenant in a tier."""
        key = TIERS[tier], tenant
        found = self.streams.get(key)
        if found is None:
            found = self.streams[key] = Stream()
        return found


def percentile(ordered: "array[float] | list[float]", percent: float) -> float:
    """Give the nearest-rank percentile of sorted numbers; 0 of none."""
    if not ordered:
        return 0.0
    return ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)]


def jain(shares: list[float]) -> float:
    """Give Jain's index of fairness, 1/n to 1; 1 when nobody competed.

    Jain, Chiu and Hawe, 1984: (Σx)² / (n Σx²).
    """
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 1.0
