"""What a call of a scripted policy comes to."""

from typing import Literal

from msgspec import Struct

# `unavailable`: no process was free in time, which is not the policy's fault.
Reason = Literal["error", "timeout", "memory", "crash", "bad_return", "unavailable"]


class Decided(Struct, frozen=True):
    """What a policy answered: actions that nobody has checked yet, and what it said.

    `took_ms` is real time with the way to the child and back, `cpu_ms` the child's part.
    """

    actions: tuple[object, ...]
    took_ms: float
    cpu_ms: float = 0.0
    printed: tuple[str, ...] = ()
    metrics: tuple[tuple[str, float], ...] = ()
    output_dropped: int = 0


class PolicyFailed(Struct, frozen=True):
    """A call that gave nothing: why, the script's traceback and line, and what it had said."""

    reason: Reason
    traceback: str
    line: int | None = None
    printed: tuple[str, ...] = ()
