"""Read a heartbeat that anybody may have written: clamp its numbers, refuse the rest."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from octarm.models.ids import is_token
from octarm.models.scalars import MAX_SLOTS

MAX_BEAT_BYTES: Final = 1024 * 1024
MAX_NAN_BYTES: Final = 64 * 1024
MIN_INTERVAL_S: Final = 0.1
MAX_INTERVAL_S: Final = 60.0
DEFAULT_INTERVAL_S: Final = 5.0
MAX_LATENCY_MS: Final = 86_400_000.0


class NotABeat(ValueError):
    """What came on a heartbeat subject cannot be understood."""


@dataclass(frozen=True, slots=True)
class Beat:
    """A sign of life of one instance, every number within its limits.

    It carries no time: the hearer's monotonic clock dates it.
    """

    arm_id: str
    instance_id: str
    draining: bool = False
    slots: int = 0
    running: int = 0
    avg_latency_ms: float = 0.0
    error_rate: float = 0.0
    interval_s: float = DEFAULT_INTERVAL_S
    host: str = ""


def names_of(subject: str) -> tuple[str, str]:
    """Give the arm and the instance that a heartbeat subject names.

    Raises:
        NotABeat: a name could not stand in a subject of ours.
    """
    arm_id, _, instance_id = subject.rpartition(".")
    arm_id = arm_id.rpartition(".")[2]
    if not (is_token(arm_id) and is_token(instance_id)):
        raise NotABeat("the subject names no instance")
    return arm_id, instance_id


def read_beat(subject: str, data: bytes) -> Beat:
    """Make a beat of what came on `subject`.

    Numbers out of range are clamped and NaN is read as the default: an arm with a wrong
    sum is still alive.

    Raises:
        NotABeat: not a JSON object, too large, or it names another instance than its subject.
    """
    arm_id, instance_id = names_of(subject)
    fields = _fields(data)
    if fields.get("arm_id") != arm_id or fields.get("instance_id") != instance_id:
        raise NotABeat("the body names another instance than the subject")
    running = fields.get("running")
    host = fields.get("host")
    return Beat(
        arm_id=arm_id,
        instance_id=instance_id,
        draining=fields.get("status") == "draining",
        slots=int(_clamped(fields, "slots", (0, MAX_SLOTS), 0)),
        running=min(len(running), MAX_SLOTS) if isinstance(running, list) else 0,
        avg_latency_ms=_clamped(fields, "avg_latency_ms", (0, MAX_LATENCY_MS), 0.0),
        error_rate=_clamped(fields, "error_rate", (0, 1), 0.0),
        interval_s=_clamped(
            fields, "interval_s", (MIN_INTERVAL_S, MAX_INTERVAL_S), DEFAULT_INTERVAL_S
        ),
        host=host[:255] if isinstance(host, str) else "",
    )


def _fields(data: bytes) -> Mapping[str, Any]:
    if len(data) > MAX_BEAT_BYTES:
        raise NotABeat("too large")
    try:
        fields = msgspec.json.decode(data)
    except (ValueError, RecursionError):
        fields = _fields_with_nan(data)
    if not isinstance(fields, dict):
        raise NotABeat("not a JSON object")
    return fields


def _fields_with_nan(data: bytes) -> Any:
    """Read NaN and Infinity too, which Python's own encoder writes; slower, so for little data."""
    if len(data) > MAX_NAN_BYTES:
        raise NotABeat("not JSON")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise NotABeat("not JSON") from error


def _clamped(
    fields: Mapping[str, Any], name: str, limits: tuple[float, float], default: float
) -> float:
    value = fields.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return default
    if isinstance(value, float) and math.isnan(value):
        return default
    low, high = limits
    return min(max(value, low), high)
