"""One attempt in the hands of an arm."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Final

from octarm.common.telemetry import tracing
from octarm.models.contracts import TaskContract
from octarm.sdk.context import Context
from octarm.sdk.inbox import Command
from octarm.sdk.outcomes import Circumstances
from octarm.sdk.recent import Key
from octarm.sdk.spending import NOTHING

SPAN: Final = "arm.run"


class Attempt:
    """A run command that was started; `settled` once its result is on the way.

    A handler that ignores its cancellation keeps the attempt's slot until it really ends,
    though the attempt has been settled.
    """

    __slots__ = (
        "began_ns",
        "command",
        "context",
        "due",
        "key",
        "parent",
        "settled",
        "slots",
        "started",
        "started_at",
        "task",
        "timer",
        "traceparent",
        "work",
    )

    def __init__(self, command: Command) -> None:
        self.command = command
        self.key: Key = (command.task_id, command.attempt)
        self.parent = self.traceparent = command.traceparent
        self.began_ns = 0
        self.started = time.perf_counter()
        self.started_at = datetime.now(UTC)
        self.settled = False
        self.slots = command.slots
        self.task: TaskContract | None = None
        self.context: Context | None = None
        self.due = 0
        self.timer: asyncio.TimerHandle | None = None
        self.work: asyncio.Task[None] | None = None

    @property
    def cancelled(self) -> bool:
        """Whether somebody called it off."""
        return self.context is not None and self.context.cancelled

    @property
    def names(self) -> dict[str, object]:
        """What a line of the log says of it."""
        return {
            "task_id": self.command.task_id,
            "attempt": self.command.attempt,
            "traceparent": self.traceparent,
        }

    def trace(self) -> str:
        """Begin the span of a sampled one, from now; gives the traceparent for what it calls."""
        self.began_ns = time.time_ns()
        self.traceparent = tracing.child(self.parent)
        return self.traceparent

    def traced(self, arm_id: str, error: str) -> None:
        """End its span; an attempt without one, as it is not sampled, leaves one if it failed."""
        (task_id, attempt), parent, own = self.key, self.parent, self.traceparent
        if self.began_ns and not error:
            common = (attempt, arm_id, arm_id)
            ended_ns = time.time_ns()
            tracing.passed(tracing.Hop(SPAN, parent, own, self.began_ns, ended_ns, task_id, common))
        elif error:
            tracing.record(
                SPAN,
                parent,
                self.began_ns or int(self.started_at.timestamp() * 1e9),
                error=error,
                span_id=tracing.span_id(own) if own is not parent else "",
                task_id=task_id,
                attempt=attempt,
                arm_id=arm_id,
                agent=arm_id,
            )

    def allowed_s(self) -> float:
        """Give the seconds it may take: its timeout, or what the budget has left."""
        timeout_s = float(self.task.timeout_seconds) if self.task is not None else 0.0
        limit_s = self.context.time_limit_s if self.context is not None else None
        return timeout_s if limit_s is None else min(timeout_s, limit_s)

    def elapsed_s(self) -> float:
        """Give the seconds since it started."""
        return time.perf_counter() - self.started

    def circumstances(self, arm_id: str, instance_id: str) -> Circumstances:
        """Say who ran what, when, and what it used, as of now."""
        return Circumstances(
            task_id=self.command.task_id,
            attempt=self.command.attempt,
            arm_id=arm_id,
            instance_id=instance_id,
            goal=self.task.goal if self.task is not None else "",
            started_at=self.started_at,
            ended_at=datetime.now(UTC),
            execution_time_ms=int(self.elapsed_s() * 1000),
            spent=self.context.spent if self.context is not None else NOTHING,
        )
