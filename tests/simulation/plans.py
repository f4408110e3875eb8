"""What a seed means: which groups of faults a run has, how strong, and what the nemesis does."""

import random
from dataclasses import dataclass, field
from typing import Final

ALWAYS: Final = {
    "slow": 0.003,
    "work_fails": 0.08,
    "fails_for_good": 0.3,
    "start_told": 0.4,
    "result_twice": 0.03,
    "cancelled": 0.05,
    "work_is_long": 0.01,
    "unwanted": 0.1,
    "policy_fails": 0.05,
}
GROUPS: Final[dict[str, dict[str, float]]] = {
    "acks": {"puback_lost": 0.04, "puback_late": 0.03, "ack_lost": 0.06, "redelivered_early": 0.04},
    "losses": {"publish_lost": 0.02, "core_lost": 0.08, "api_lost": 0.03, "watcher_blind": 0.3},
    "database": {"commit_refused": 0.03, "commit_unknown": 0.04},
    "crashes": {"crash_before_commit": 0.008, "crash_after_commit": 0.012},
    "arms": {"arm_dies": 0.04, "arm_hangs": 0.03},
}
DEEDS: Final[dict[str, list[str]]] = {
    "kills": ["kill", "kill", "kill", "stop"],
    "pauses": ["pause"],
    "network": ["drop", "drop", "stall", "restart_bus"],
    "takeovers": ["mute_a_leader", "depose_unseen"],
    "outages": ["database_away", "stream_full"],
    "clocks": ["clock_jump"],
}
REPLICATED: Final = ("orchestrator", "scheduler", "registry", "writer")


@dataclass(frozen=True, slots=True)
class Plan:
    """One run: how much work, which faults, of which services two, whether a script decides."""

    tasks: int
    gap_s: float
    chaos_s: float
    every_s: float
    twice: tuple[str, ...] = ()
    slots: int = 4
    rates: dict[str, float] = field(default_factory=dict)
    deeds: tuple[str, ...] = ()
    name: str = ""
    scripted: bool = False

    @property
    def has_faults(self) -> bool:
        """Whether anything goes wrong beside the arms' own work."""
        return bool(self.rates.keys() - ALWAYS.keys())


def plan_of(seed: int, *, tasks: int = 24) -> Plan:
    """Draw the plan that belongs to a seed; one in ten runs has no faults at all."""
    rng = random.Random(f"plan-{seed}")
    calm = rng.random() < 0.1
    groups = [] if calm else [name for name in GROUPS if rng.random() < 0.5]
    kinds = [] if calm else [name for name in DEEDS if rng.random() < 0.5]
    strength = rng.choice([0.5, 1.0, 1.0, 2.0])
    rates = dict(ALWAYS)
    if calm:
        # Without faults a long attempt proves that its lease is renewed.
        rates["work_is_long"] = 0.1
    for group in groups:
        rates |= {name: rate * strength for name, rate in GROUPS[group].items()}
    return Plan(
        tasks=tasks,
        gap_s=rng.choice([0.05, 0.3, 0.8]),
        chaos_s=rng.uniform(5, 25),
        every_s=rng.choice([1.0, 3.0, 6.0]),
        twice=tuple(name for name in REPLICATED if rng.random() < 0.5),
        slots=rng.choice([4, 16, 40]),
        rates=rates,
        deeds=tuple(deed for kind in kinds for deed in DEEDS[kind]),
        name="+".join([*groups, *kinds]) or "calm",
        # Drawn last: what else a seed means does not depend on it.
        scripted=rng.random() < 0.3,
    )
