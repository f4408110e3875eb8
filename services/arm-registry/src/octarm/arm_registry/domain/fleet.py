"""All arms as their beats show them, and what the directory should say of them.

Times called `now` are monotonic seconds; `wall` is only shown to people.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from math import inf
from typing import Final, Literal

from octarm.arm_registry.domain.beats import Beat
from octarm.arm_registry.domain.verdict import (
    OFFLINE_AFTER,
    Instance,
    Norm,
    Verdict,
    settled,
    verdict,
)
from octarm.models.arms import ArmRecord, InstanceInfo

FIGURES_EVERY_S: Final = 5.0
SEEN_EVERY_S: Final = 30.0
AGES_S: Final = (FIGURES_EVERY_S, SEEN_EVERY_S)
MAX_INSTANCES: Final = 1_000

Heard = Literal["unknown", "news", "usual"]


@dataclass(frozen=True, slots=True)
class Stored:
    """A record and the directory's revision of it."""

    record: ArmRecord
    revision: int


@dataclass(frozen=True, slots=True)
class Change:
    """What the directory should say instead of `stored`; `flipped`: the status is another."""

    stored: Stored
    record: ArmRecord
    flipped: bool


@dataclass(slots=True)
class _Arm:
    stored: Stored
    instances: dict[str, Instance]
    seen: dict[str, datetime]
    written_at: float
    norm: Norm = field(default_factory=Norm)
    judge_at: float = 0.0
    """When silence or age may change what is to be said of it; anything heard says: now."""


class Fleet:
    """The arms that one registry watches; it neither reads a clock nor writes anything."""

    def __init__(self) -> None:
        self._arms: dict[str, _Arm] = {}

    def __contains__(self, arm_id: str) -> bool:
        return arm_id in self._arms

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._arms))

    def stored(self, arm_id: str) -> Stored:
        """Give what the directory last said of a watched arm."""
        return self._arms[arm_id].stored

    def adopt(self, directory: Mapping[str, Stored], *, now: float) -> None:
        """Take over the whole directory: forget what is not in it."""
        for arm_id in self._arms.keys() - directory.keys():
            del self._arms[arm_id]
        for stored in directory.values():
            self.know(stored, now=now)

    def know(self, stored: Stored, *, now: float) -> None:
        """Take the directory's word for one arm; an older revision than ours is ignored."""
        arm_id = stored.record.arm.arm_id
        arm = self._arms.get(arm_id)
        if arm is None:
            self._arms[arm_id] = _Arm(
                stored=stored,
                instances={one.instance_id: _unheard(arm_id, one, now) for one in _listed(stored)},
                seen={one.instance_id: one.seen_at for one in _listed(stored)},
                written_at=now,
            )
        elif stored.revision > arm.stored.revision:
            arm.stored = stored
            arm.judge_at = 0.0

    def forget(self, arm_id: str) -> None:
        """Stop watching an arm."""
        self._arms.pop(arm_id, None)

    def hear(self, beat: Beat, *, now: float, wall: datetime) -> Heard:
        """Take in a beat and tell what to make of it.

        `unknown`: the arm is not in the directory, or has too many instances; `news`: it may
        change the arm's status, judge at once; `usual`: the next look is soon enough.
        """
        arm = self._arms.get(beat.arm_id)
        if arm is None:
            return "unknown"
        before = arm.instances.get(beat.instance_id)
        if before is None and len(arm.instances) >= MAX_INSTANCES:
            return "unknown"
        arm.instances[beat.instance_id] = Instance(beat, now)
        arm.seen[beat.instance_id] = wall
        arm.norm = arm.norm.learn(beat.avg_latency_ms)
        arm.judge_at = 0.0
        same = before is not None and before.beat.draining == beat.draining
        return "usual" if same and arm.stored.record.status == "online" else "news"

    def deaf(self, *, now: float) -> None:
        """Conclude nothing from the silence before `now`: we could not hear, or did not look."""
        for arm in self._arms.values():
            arm.judge_at = 0.0
            for name, instance in arm.instances.items():
                arm.instances[name] = replace(instance, heard_at=now, heard=False)

    def wrote(self, stored: Stored, *, now: float) -> None:
        """Note that the directory took our change."""
        arm = self._arms.get(stored.record.arm.arm_id)
        if arm is not None:
            arm.stored = stored
            arm.written_at = now
            arm.judge_at = 0.0

    def changes(self, arm_ids: Iterable[str], *, now: float, wall: datetime) -> Iterator[Change]:
        """Judge these arms; yields what must be written.

        That is: another status or another set of instances at once, other figures every 5 s,
        and every 30 s a fresh `seen_at`. An arm of which nothing was heard, and which has come
        to no such time, is passed over.
        """
        for arm_id in arm_ids:
            arm = self._arms.get(arm_id)
            if arm is not None and now >= arm.judge_at:
                change = _change(arm, now, wall)
                if change is not None:
                    yield change
                else:
                    arm.judge_at = _judge_at(arm, now)


def _listed(stored: Stored) -> list[InstanceInfo]:
    return stored.record.instances[:MAX_INSTANCES]


def _unheard(arm_id: str, info: InstanceInfo, now: float) -> Instance:
    beat = Beat(
        arm_id=arm_id,
        instance_id=info.instance_id,
        draining=info.status == "draining",
        slots=info.slots,
        running=info.running,
        interval_s=info.interval_s,
        host=info.host,
    )
    return Instance(beat, now, heard=False)


def _change(arm: _Arm, now: float, wall: datetime) -> Change | None:
    record = arm.stored.record
    _drop_the_gone(arm, now)
    found = verdict(
        arm.instances.values(), now=now, drain_requested=record.drain_requested, norm=arm.norm
    )
    before = Verdict(record.status, record.reason)
    held = any(not one.heard for one in arm.instances.values())
    after = settled(before, found, held=held)
    flipped = after.status != before.status
    if not flipped and not _worth_writing(arm, now):
        return None
    infos = [_info(one, arm.seen) for _, one in sorted(arm.instances.items())]
    changed_at = wall if flipped else record.changed_at
    update = {
        "status": after.status,
        "reason": after.reason,
        "instances": infos,
        "changed_at": changed_at,
    }
    return Change(arm.stored, record.model_copy(update=update), flipped)


def _judge_at(arm: _Arm, now: float) -> float:
    """Say when an arm that stays silent may have to be judged otherwise than now."""
    times = [
        one.heard_at + (one.missed(now) + 1) * one.beat.interval_s for one in arm.instances.values()
    ]
    times += [arm.written_at + age_s for age_s in AGES_S if now - arm.written_at < age_s]
    return min(times, default=inf)


def _drop_the_gone(arm: _Arm, now: float) -> None:
    gone = [name for name, one in arm.instances.items() if one.missed(now) >= OFFLINE_AFTER]
    for name in gone:
        del arm.instances[name]
        arm.seen.pop(name, None)


def _info(instance: Instance, seen: Mapping[str, datetime]) -> InstanceInfo:
    beat = instance.beat
    return InstanceInfo(
        instance_id=beat.instance_id,
        status=_status(beat),
        slots=beat.slots,
        running=beat.running,
        host=beat.host,
        interval_s=beat.interval_s,
        seen_at=seen[beat.instance_id],
    )


def _worth_writing(arm: _Arm, now: float) -> bool:
    """Tell whether the directory should say something else; asked of every arm each second."""
    written = {one.instance_id: one for one in arm.stored.record.instances}
    instances = arm.instances
    if written.keys() != instances.keys():
        return True
    beats = [(written[name], one.beat) for name, one in instances.items()]
    if any(info.status != _status(beat) for info, beat in beats):
        return True
    age_s = now - arm.written_at
    if age_s >= SEEN_EVERY_S and any(
        info.seen_at != arm.seen[info.instance_id] for info in written.values()
    ):
        return True
    return age_s >= FIGURES_EVERY_S and any(_differ(info, beat) for info, beat in beats)


def _status(beat: Beat) -> Literal["ready", "draining"]:
    return "draining" if beat.draining else "ready"


def _differ(info: InstanceInfo, beat: Beat) -> bool:
    said = beat.slots, beat.running, beat.host, beat.interval_s
    return said != (info.slots, info.running, info.host, info.interval_s)
