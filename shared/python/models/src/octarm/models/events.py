"""Facts, as they stand in the EVENTS stream (CloudEvents 1.0 binary mode, `ce-` headers).

Ids and times are given, never defaulted: the same cause gives the same bytes, so a replay
publishes nothing new. `seq` counts the events of one task from 1 without a gap.
"""

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from octarm.models.arms import ArmStatus
from octarm.models.commands import MAX_BATCH, Message, Text, TraceParent
from octarm.models.errors import Problem
from octarm.models.ids import ArmId, EventId, TaskId, Tenant, Token
from octarm.models.results import ExecutionResult
from octarm.models.scalars import MAX_ATTEMPT, MAX_INT, Attempt, Count, Instant, Share
from octarm.models.shedding import Switched
from octarm.models.states import CancelProof


class Event(Message):
    """A fact that has already happened."""

    event_id: EventId = Field(description="Idempotency key, also sent as Nats-Msg-Id and ce-id")
    occurred_at: Instant


class TaskEvent(Event):
    """A fact about one task."""

    task_id: TaskId
    tenant: Tenant
    seq: int = Field(ge=1, le=MAX_INT, strict=True, description="Counts the events of this task")
    attempt: int = Field(
        ge=0, le=MAX_ATTEMPT, strict=True, description="0 before the first attempt"
    )
    traceparent: TraceParent = ""


class TaskAccepted(TaskEvent):
    """The ledger holds the task."""

    type: Literal["task.accepted"] = "task.accepted"


class TaskReady(TaskEvent):
    """Nothing keeps the task from being placed."""

    type: Literal["task.ready"] = "task.ready"


class TaskPlaced(TaskEvent):
    """The attempt was sent to an arm."""

    type: Literal["task.placed"] = "task.placed"
    arm_id: ArmId
    policy: str
    reason: str


class TaskStarted(TaskEvent):
    """An instance works on the attempt."""

    type: Literal["task.started"] = "task.started"
    arm_id: ArmId
    instance_id: Token


class TaskProgress(TaskEvent):
    """The arm says how far it is."""

    type: Literal["task.progress"] = "task.progress"
    fraction: Share
    message: str = ""


class TaskRetried(TaskEvent):
    """The attempt failed; `attempt` is the next one, ready not before `not_before`."""

    type: Literal["task.retried"] = "task.retried"
    error: Problem
    not_before: Instant


class TaskValidated(TaskEvent):
    """The acceptance criteria were judged."""

    type: Literal["task.validated"] = "task.validated"
    passed: list[str] = Field(default_factory=list)


class TaskEnded(TaskEvent):
    """A terminal fact; each task has exactly one."""

    arm_id: ArmId | None = None
    goal: str = Field(default="", description="The first 500 characters")
    result: ExecutionResult | None = Field(default=None, description="Left out above 64 KiB")


class TaskCompleted(TaskEnded):
    """It succeeded."""

    type: Literal["task.completed"] = "task.completed"


class TaskFailed(TaskEnded):
    """It failed for good."""

    type: Literal["task.failed"] = "task.failed"
    error: Problem


class TaskCancelled(TaskEnded):
    """Somebody called it off, or it was not needed any more."""

    type: Literal["task.cancelled"] = "task.cancelled"
    reason: str = ""
    proof: CancelProof | None = Field(default=None, description="What shows that work stopped")


class TaskTimedOut(TaskEnded):
    """Its deadline passed."""

    type: Literal["task.timed_out"] = "task.timed_out"
    error: Problem


class TaskRejected(TaskEnded):
    """It was accepted and then refused."""

    type: Literal["task.rejected"] = "task.rejected"
    error: Problem


class TaskEnding(TaskEnded):
    """Any terminal fact, as those read it who want to know of the end and not of its kind."""

    type: Literal[
        "task.completed", "task.failed", "task.cancelled", "task.timed_out", "task.rejected"
    ]
    error: Problem | None = None
    reason: str = ""


class TasksEnded(Message):
    """These tasks ended (ENDED): their terminal events once more, for the fleet's own services."""

    events: list[TaskEnding] = Field(min_length=1, max_length=MAX_BATCH)


class TaskLateResult(TaskEvent):
    """A result came for an attempt that no longer counts; it is kept, and paid for."""

    type: Literal["task.late_result"] = "task.late_result"
    late_attempt: Attempt
    arm_id: ArmId
    status: Literal["success", "failure", "partial"]


AnyTaskEvent = Annotated[
    TaskAccepted
    | TaskReady
    | TaskPlaced
    | TaskStarted
    | TaskProgress
    | TaskRetried
    | TaskValidated
    | TaskCompleted
    | TaskFailed
    | TaskCancelled
    | TaskTimedOut
    | TaskRejected
    | TaskLateResult,
    Field(discriminator="type"),
]


class TaskEvents(Message):
    """What happened to tasks of one tenant, in order (EVENTS)."""

    events: list[AnyTaskEvent] = Field(min_length=1, max_length=MAX_BATCH)


TERMINAL_VERBS = ("completed", "failed", "cancelled", "timed_out", "rejected")


class ArmEvent(Event):
    """A fact about one arm."""

    type: Literal[
        "arm.registered",
        "arm.online",
        "arm.degraded",
        "arm.draining",
        "arm.offline",
        "arm.deregistered",
    ]
    arm_id: ArmId
    status: ArmStatus
    reason: str = ""


class MemoryEvent(Event):
    """A memory was promoted or has expired."""

    type: Literal["memory.promoted", "memory.expired"]
    tenant: Tenant
    memory_id: Token


class PolicyEvent(Event):
    """Something was done to, or happened to, a version of a scheduling policy."""

    type: Literal[
        "policy.saved",
        "policy.deployed",
        "policy.shadowed",
        "policy.rolled_back",
        "policy.tripped",
        "policy.failed",
        "policy.deleted",
    ]
    policy: Token = Field(description="Digest of the version, or the name of a built-in one")
    detail: dict[str, JsonValue] = Field(default_factory=dict)


class SheddingEvent(Event):
    """An operator put a load-shedding switch."""

    type: Literal["shedding.switched"] = "shedding.switched"
    switch: Switched


class DeadLetter(Message):
    """A delivery that could not be handled, as a header of its message in the DLQ stream.

    The message's body is what was delivered, byte for byte where it fits.
    """

    origin: Text = Field(description="The consumer that gave it up")
    subject: Text
    stream_seq: Count = Field(description="Sequence in the stream it came from")
    deliveries: Count
    published_at: Instant
    reason: Text
    size_bytes: Count = Field(description="Bytes of the whole payload")
    first_bytes: str = Field(description="Base64 of the payload's beginning")
    msg_id: str = Field(default="", description="Its Nats-Msg-Id")
    headers: dict[str, str] = Field(default_factory=dict, description="Its headers")
    tenant: str = Field(default="", description="Whose it is; empty: unknown, or of several")
    task_id: str = Field(default="", description="Its one task; empty: unknown, or several")
    attempt: int = Field(default=0, ge=0, le=MAX_ATTEMPT, description="0: unknown")
    redrives: Count = Field(default=0, description="How often it was sent back before")
    kept: Literal["whole", "zlib", "cut"] = Field(
        default="cut", description="How the body holds the payload; cut: not at all"
    )
