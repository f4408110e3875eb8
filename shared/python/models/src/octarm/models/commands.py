"""Wishes that travel on the bus, and what arms report while they work.

READY, placements and attempt updates carry up to 64 tasks a message; each task in them is
fenced by (task_id, attempt) where it arrives. DISPATCH and RESULTS carry one.
"""

from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from octarm.models.contracts import LabelKey, LabelValue, TaskContract, TaskSubmission, Tier
from octarm.models.ids import ArmId, Tag, TaskId, Tenant, Token

MAX_BATCH: Final = 64
MAX_SUBMISSIONS: Final = 1000

TraceParent = Annotated[
    str, StringConstraints(pattern=r"^$|^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$")
]
Attempt = Annotated[int, Field(ge=1)]
Text = Annotated[str, StringConstraints(max_length=1000)]


class Message(BaseModel):
    """Something that crosses a service boundary; unknown fields are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class SubmitTask(Message):
    """Accept this task; published to INTAKE, or one of a `SubmitTasks` request.

    Without `task_id` and idempotency key a task published to INTAKE is known by its stream
    sequence, so a redelivery is the same task.
    """

    submission: TaskSubmission
    task_id: TaskId | None = None
    traceparent: TraceParent = ""
    correlation_id: str = ""


class ReadyTask(Message):
    """A task that waits to be placed, with what the scheduler ranks by."""

    task_id: TaskId
    attempt: Attempt
    tenant: Tenant
    tier: Tier
    priority: int = Field(ge=1, le=10)
    needs: list[Tag]
    assigned_arm: ArmId | None = None
    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict)
    deadline: AwareDatetime | None = None
    queued_at: AwareDatetime
    traceparent: TraceParent = ""
    task: TaskContract


class PlaceTasks(Message):
    """Place these tasks (READY)."""

    tasks: list[ReadyTask] = Field(min_length=1, max_length=MAX_BATCH)


class RunTask(Message):
    """Run this attempt (DISPATCH); acknowledged by the instance that starts it."""

    task_id: TaskId
    attempt: Attempt
    placed_at: AwareDatetime
    traceparent: TraceParent = ""
    task: TaskContract


class CancelAttempt(Message):
    """Stop this attempt (core NATS, `ctl.<arm>`): no output after five seconds."""

    task_id: TaskId
    attempt: Attempt
    reason: Text = ""


class Score(Message):
    """How one candidate arm ranked."""

    arm_id: ArmId
    score: float
    note: Text = ""


class Placement(Message):
    """Where the scheduler sent one attempt, and why."""

    task_id: TaskId
    attempt: Attempt
    arm_id: ArmId
    dispatch_seq: int = Field(ge=0, description="Stream sequence in DISPATCH, to revoke it")
    placed_at: AwareDatetime
    policy: Text = Field(description="Name, or name@digest, of the policy that decided")
    reason: Text
    scores: list[Score] = Field(default_factory=list, max_length=5)


class PlacementsMade(Message):
    """The scheduler placed these attempts (RESULTS)."""

    shard: int = Field(ge=0, lt=64)
    placements: list[Placement] = Field(min_length=1, max_length=MAX_BATCH)


class AttemptUpdate(Message):
    """An attempt started, or made progress."""

    task_id: TaskId
    attempt: Attempt
    kind: Literal["started", "progress"]
    at: AwareDatetime
    fraction: float = Field(default=0.0, ge=0, le=1)
    message: Text = ""


class AttemptsUpdated(Message):
    """What an instance's attempts have come to (RESULTS)."""

    arm_id: ArmId
    instance_id: Token
    updates: list[AttemptUpdate] = Field(min_length=1, max_length=MAX_BATCH)


class Chunk(Message):
    """A piece of output while it is made (core NATS, `chunk.<task>`); never stored."""

    task_id: TaskId
    attempt: Attempt
    seq: int = Field(ge=0, description="Counts the chunks of this attempt")
    text: Annotated[str, StringConstraints(max_length=65_536)]
