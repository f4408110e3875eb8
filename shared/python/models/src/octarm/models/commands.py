"""Wishes that travel on the bus, and what arms report while they work.

READY, DISPATCH and RESULTS carry up to 64 tasks a message; each task in them is fenced by
(task_id, attempt) where it arrives.
"""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from octarm.models.contracts import LabelKey, LabelValue, TaskContract, TaskSubmission, Tier
from octarm.models.ids import ArmId, Tag, TaskId, Tenant, Token
from octarm.models.results import ExecutionResult
from octarm.models.scalars import MAX_INT, Attempt, Count, Instant, Share, Slots

MAX_BATCH: Final = 64
MAX_SUBMISSIONS: Final = 1000
CORRELATION_OR_NONE: Final = r"^[A-Za-z0-9-]{0,64}$"
TRACEPARENT_PATTERN: Final = r"^(00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2})?$"

BUNDLES_AN_INSTANCE: Final = 8

TraceParent = Annotated[str, StringConstraints(pattern=TRACEPARENT_PATTERN)]
Text = Annotated[str, StringConstraints(max_length=1000)]


def bundle_size(slots: int) -> int:
    """Give the most attempts that may travel together to one of several instances.

    A bundle goes to one instance of its arm, whole: it must be a small part of what that can run
    in its slots.
    """
    return min(max(slots // BUNDLES_AN_INSTANCE, 1), MAX_BATCH)


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
    correlation_id: Annotated[str, StringConstraints(pattern=CORRELATION_OR_NONE)] = ""


class ReadyTask(Message):
    """A task that waits to be placed, with what the scheduler ranks by."""

    task_id: TaskId
    attempt: Attempt
    tenant: Tenant
    tier: Tier
    priority: int = Field(ge=1, le=10, strict=True)
    needs: list[Tag]
    assigned_arm: ArmId | None = None
    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict, max_length=20)
    deadline: Instant | None = None
    queued_at: Instant
    traceparent: TraceParent = ""
    slots: Slots = 1
    task: TaskContract


class PlaceTasks(Message):
    """Place these tasks (READY)."""

    tasks: list[ReadyTask] = Field(min_length=1, max_length=MAX_BATCH)


class CancelAttempt(Message):
    """Stop this attempt (core NATS, `ctl.<arm>`): no output after five seconds."""

    task_id: TaskId
    attempt: Attempt
    reason: Text = ""


class Score(Message):
    """How one candidate arm ranked."""

    arm_id: ArmId
    score: float = Field(strict=True)
    note: Text = ""


class RunTask(Message):
    """Run this attempt: one of a `RunTasks`."""

    task_id: TaskId
    attempt: Attempt
    traceparent: TraceParent = ""
    reason: Text = Field(default="", description="Why it goes to this arm")
    scores: list[Score] = Field(default_factory=list, max_length=5)
    slots: Slots = 1
    task: TaskContract


class RunTasks(Message):
    """Run these attempts (DISPATCH).

    Publishing it places them: the arm's instance that takes it acknowledges it and runs them, the
    orchestrator acknowledges it for itself and records where they went.
    """

    shard: int = Field(ge=0, lt=64, strict=True)
    arm_id: ArmId
    placed_at: Instant
    policy: Text = Field(description="Name, or name@digest, of the policy that decided")
    tasks: list[RunTask] = Field(min_length=1, max_length=MAX_BATCH)


class LeadShard(Message):
    """From here on this scheduler alone places the shard's tasks (DISPATCH).

    What earlier leaders publish after it is refused by the server: a run command names the
    sequence of the message that its sender has led by.
    """

    shard: int = Field(ge=0, lt=64, strict=True)
    leader: Text


class AttemptUpdate(Message):
    """An attempt started, or made progress."""

    task_id: TaskId
    attempt: Attempt
    kind: Literal["started", "progress"]
    at: Instant
    fraction: Share = 0.0
    message: Text = ""


class AttemptsUpdated(Message):
    """What an instance's attempts have come to (RESULTS)."""

    arm_id: ArmId
    instance_id: Token
    updates: list[AttemptUpdate] = Field(min_length=1, max_length=MAX_BATCH)


class CallSpend(Message):
    """What one call of an attempt has used; the same call told again is the same call."""

    task_id: TaskId
    attempt: Attempt
    call_no: int = Field(
        ge=-MAX_INT, le=MAX_INT, strict=True, description="Below zero: numbered by the arm"
    )
    tokens: Count = 0
    micro_dollars: Count = 0
    llm_calls: Count = 0


class SpendReported(Message):
    """Calls that attempts of one arm have paid for (RESULTS), told before the attempt's end."""

    arm_id: ArmId
    instance_id: Token
    calls: list[CallSpend] = Field(min_length=1, max_length=MAX_BATCH)


class ResultsReported(Message):
    """What came of several attempts of one arm (RESULTS); each is fenced where it arrives."""

    arm_id: ArmId
    results: list[ExecutionResult] = Field(min_length=1, max_length=MAX_BATCH)
    traceparents: list[TraceParent] = Field(
        default_factory=list,
        max_length=MAX_BATCH,
        description="Of the results, in their order; left out when none is sampled",
    )


class Chunk(Message):
    """A piece of output while it is made (core NATS, `chunk.<task>`); never stored."""

    task_id: TaskId
    attempt: Attempt
    seq: Count = Field(description="Counts the chunks of this attempt")
    text: Annotated[str, StringConstraints(max_length=65_536)]
