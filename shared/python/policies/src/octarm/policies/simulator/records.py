"""Recorded decisions, to be replayed under other policies: JSON lines.

One line is a decision (an attempt that was placed), an arm or a tenant, told apart by `type`.
Lines may come in any order; unknown fields are ignored, so that a record may hold more.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from octarm.policies.context import Tier
from octarm.policies.simulator.load import ArmPool, BadLoad, Load, Tenant

Name = Annotated[str, Meta(min_length=1, max_length=128)]


class RecordedDecision(Struct, frozen=True, tag_field="type", tag="decision", omit_defaults=True):
    """An attempt that was placed. Times are Unix seconds, `cost` micro-dollars.

    `took_s` is from its placing to its end; None when it has not ended, and then the mean of
    the record stands for it. `policy`, `arm_id`, `placed_at` and `cost` say what happened then;
    a replay decides anew and does not look at them.
    """

    task_id: Name
    queued_at: float
    attempt: Annotated[int, Meta(ge=1)] = 1
    tenant: Name = "default"
    tier: Tier = "interactive"
    priority: Annotated[int, Meta(ge=1, le=10)] = 5
    needs: list[str] = []
    labels: dict[str, str] = {}
    assigned_arm: str | None = None
    slots: Annotated[int, Meta(ge=1)] = 1
    tokens: Annotated[int, Meta(ge=0)] = 0
    deadline: float | None = None
    took_s: Annotated[float, Meta(gt=0)] | None = None
    status: Literal["success", "failure", "partial"] = "success"
    placed_at: float | None = None
    arm_id: str | None = None
    policy: str = ""
    cost: int = 0


class RecordedArm(Struct, frozen=True, tag_field="type", tag="arm", omit_defaults=True):
    """An arm as it was; costs are micro-dollars."""

    arm_id: Name
    slots: Annotated[int, Meta(ge=1)] = 10
    capabilities: list[str] = []
    cost_tier: Annotated[int, Meta(ge=1, le=5)] = 1
    labels: dict[str, str] = {}
    takes_any: bool = True
    cost_per_task: Annotated[float, Meta(ge=0)] = 0.0
    cost_per_s: Annotated[float, Meta(ge=0)] = 0.0


class RecordedTenant(Struct, frozen=True, tag_field="type", tag="tenant", omit_defaults=True):
    """A tenant's weight and quota."""

    name: Name
    weight: Annotated[float, Meta(gt=0)] = 1.0
    running: int | None = None


Line = RecordedDecision | RecordedArm | RecordedTenant
_decode = msgspec.json.Decoder(Line).decode
_encode = msgspec.json.Encoder(order="deterministic").encode


@dataclass(frozen=True, slots=True)
class Recording:
    """The tasks of a record by arrival, each with its attempts; and the arms and tenants."""

    began: float
    ended: float
    mean_s: float
    tasks: tuple[tuple[str, tuple[RecordedDecision, ...]], ...]
    arms: tuple[RecordedArm, ...]
    tenants: tuple[RecordedTenant, ...]


def encoded(lines: Iterable[Line]) -> bytes:
    """Give lines as they are written to a record."""
    return b"".join(_encode(line) + b"\n" for line in lines)


def read(path: Path) -> Recording:
    """Read a record.

    Raises:
        BadLoad: the file cannot be read, a line is no record, or no decision is in it.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise BadLoad(f"{path}: {error}") from error
    return parse(text, str(path))


def parse(text: bytes, name: str) -> Recording:
    """Take a record from JSON lines; `name` is where they came from.

    Raises:
        BadLoad: a line is no record, or no decision is in it.
    """
    lines = [
        _line(name, number, line)
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip()
    ]
    decisions = [line for line in lines if isinstance(line, RecordedDecision)]
    if not decisions:
        raise BadLoad(f"{name}: no decision is recorded in it")
    return _recording(lines, decisions)


def _line(name: str, number: int, text: bytes) -> Line:
    try:
        line: Line = _decode(text)
    except msgspec.DecodeError as error:
        raise BadLoad(f"{name}: line {number}: {error}") from error
    return line


def _recording(lines: list[Line], decisions: list[RecordedDecision]) -> Recording:
    by_task: dict[str, list[RecordedDecision]] = {}
    for decision in sorted(decisions, key=lambda it: (it.queued_at, it.task_id, it.attempt)):
        by_task.setdefault(decision.task_id, []).append(decision)
    took = [it.took_s for it in decisions if it.took_s is not None]
    return Recording(
        began=min(it.queued_at for it in decisions),
        ended=max(it.queued_at for it in decisions),
        mean_s=sum(took) / len(took) if took else 1.0,
        tasks=tuple((task_id, tuple(attempts)) for task_id, attempts in by_task.items()),
        arms=tuple(line for line in lines if isinstance(line, RecordedArm)),
        tenants=tuple(line for line in lines if isinstance(line, RecordedTenant)),
    )


def load_of(recording: Recording, name: str) -> Load:
    """Give the surroundings that a record tells of.

    Raises:
        BadLoad: it tells of no arm; then a load has to.
    """
    if not recording.arms:
        raise BadLoad(f"{name}: no arm is recorded in it: name a load that has arms")
    return Load(
        name=name,
        duration_s=max(recording.ended - recording.began, 1.0),
        arms=tuple(
            ArmPool(
                id=arm.arm_id,
                slots=arm.slots,
                capabilities=frozenset(arm.capabilities),
                cost_tier=arm.cost_tier,
                labels=arm.labels,
                takes_any=arm.takes_any,
                cost_per_task=arm.cost_per_task,
                cost_per_s=arm.cost_per_s,
            )
            for arm in recording.arms
        ),
        tenants=tuple(
            Tenant(name=it.name, weight=it.weight, running=it.running) for it in recording.tenants
        ),
    )
