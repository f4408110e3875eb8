"""How well an arm is, judged from its instances' beats; `now` is monotonic seconds."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from octarm.arm_registry.domain.beats import Beat
from octarm.models.arms import ArmStatus

DEGRADED_AFTER: Final = 2
OFFLINE_AFTER: Final = 3
ERROR_RATE: Final = 0.05
SLOW_FACTOR: Final = 3.0
SLOW_FLOOR_MS: Final = 100.0
NORM_SAMPLES: Final = 10
NORM_SHARE: Final = 0.05
NORM_SHARE_WHEN_SLOW: Final = 0.005

_RANK: Final[dict[ArmStatus, int]] = {"offline": 0, "degraded": 1, "draining": 1, "online": 2}


@dataclass(frozen=True, slots=True)
class Norm:
    """The latency that is usual for an arm, learned from its beats (moving average, ms).

    A slow spell teaches it ten times more slowly, so that the spell does not become the
    norm within seconds, yet a lasting change does within minutes.
    """

    value_ms: float = 0.0
    samples: int = 0

    def learn(self, latency_ms: float) -> "Norm":
        """Take one beat's latency in; 0 means that the instance has not measured any."""
        if latency_ms <= 0:
            return self
        if self.samples < NORM_SAMPLES:
            share = 1 / (self.samples + 1)
        else:
            share = NORM_SHARE_WHEN_SLOW if self.is_slow(latency_ms) else NORM_SHARE
        return Norm(self.value_ms + share * (latency_ms - self.value_ms), self.samples + 1)

    def is_slow(self, latency_ms: float) -> bool:
        """Tell whether a latency is three times the norm or more; below 100 ms none is."""
        return (
            self.samples >= NORM_SAMPLES
            and latency_ms >= SLOW_FLOOR_MS
            and latency_ms >= SLOW_FACTOR * self.value_ms
        )


@dataclass(frozen=True, slots=True)
class Instance:
    """The last beat of an instance and when it was heard.

    `heard` is false for one that the directory lists and that we have not heard ourselves
    since we began to listen; its `heard_at` is when we began.
    """

    beat: Beat
    heard_at: float
    heard: bool = True

    def missed(self, now: float) -> int:
        """Count the beats that should have come since the last one."""
        return max(0, int((now - self.heard_at) / self.beat.interval_s))


@dataclass(frozen=True, slots=True)
class Verdict:
    """A status and why; the reason is empty when the arm is online."""

    status: ArmStatus
    reason: str = ""


def verdict(
    instances: Iterable[Instance], *, now: float, drain_requested: bool, norm: Norm
) -> Verdict:
    """Judge an arm. The first that holds:

    1. offline: it has no instance that missed fewer than 3 beats;
    2. draining: somebody asked for it, or every live instance drains;
    3. online: an instance that does not drain is well, that is, it missed fewer than 2
       beats, fails less than 5 % and takes less than 3 times the norm;
    4. degraded, for the reason of the instance with the smallest id.
    """
    live = sorted(
        (one for one in instances if one.missed(now) < OFFLINE_AFTER),
        key=lambda one: one.beat.instance_id,
    )
    if not live:
        return Verdict("offline", "no instance has beaten for 3 intervals")
    if drain_requested:
        return Verdict("draining", "asked to drain")
    ready = [one for one in live if not one.beat.draining]
    if not ready:
        return Verdict("draining", "every instance is draining")
    ailments = [ailment(one, now=now, norm=norm) for one in ready]
    if "" in ailments:
        return Verdict("online")
    return Verdict("degraded", ailments[0])


def ailment(instance: Instance, *, now: float, norm: Norm) -> str:
    """Say what is wrong with a live instance; empty when it is well."""
    beat = instance.beat
    missed = instance.missed(now)
    if missed >= DEGRADED_AFTER:
        return f"{beat.instance_id} missed {missed} beats"
    if beat.error_rate >= ERROR_RATE:
        return f"{beat.instance_id} fails {beat.error_rate:.0%}"
    if norm.is_slow(beat.avg_latency_ms):
        return f"{beat.instance_id} takes {beat.avg_latency_ms:.0f} ms, usual {norm.value_ms:.0f}"
    return ""


def settled(before: Verdict, found: Verdict, *, held: bool) -> Verdict:
    """Keep what the directory says while `held`, unless the finding is better.

    After a restart, silence proves nothing for 3 intervals: a beat may raise an arm at once,
    nothing may lower it.
    """
    if held and _RANK[found.status] <= _RANK[before.status]:
        return before
    return found
