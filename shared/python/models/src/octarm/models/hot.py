"""msgspec twins of the models on the hot path; a contract test holds them equal.

They decode some twenty times faster than the models. A field that a hop only passes on is
`Raw`: copied, never parsed. The full contract was checked where it entered (`TaskSubmission`).
"""

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from octarm.models.hot_types import (
    ArmId,
    Attempt,
    Aware,
    Correlation,
    Count,
    EventId,
    Labels,
    LongText,
    LongTexts,
    Sha256,
    Share,
    Slots,
    Status,
    Tag,
    TaskId,
    Tenant,
    Text,
    Token,
    TraceParent,
    check_names,
)
from octarm.models.scalars import MAX_ATTEMPT, MAX_DOLLARS, MAX_INT
from octarm.models.states import TaskState

NULL: Final = Raw(b"null")


class ReadyTask(Struct, frozen=True, gc=False, omit_defaults=True):
    """Twin of `commands.ReadyTask`."""

    task_id: TaskId
    attempt: Attempt
    tenant: Tenant
    tier: Literal["interactive", "batch"]
    priority: Annotated[int, Meta(ge=1, le=10)]
    needs: list[Tag]
    queued_at: Aware
    task: Raw
    assigned_arm: ArmId | None = None
    labels: Labels = {}
    deadline: Aware | None = None
    traceparent: TraceParent = ""
    slots: Slots = 1


class PlaceTasks(Struct, frozen=True):
    """Twin of `commands.PlaceTasks`."""

    tasks: Annotated[list[ReadyTask], Meta(min_length=1, max_length=64)]


class Score(Struct, frozen=True, gc=False, omit_defaults=True):
    """Twin of `commands.Score`."""

    arm_id: ArmId
    score: float
    note: Text = ""


class RunTask(Struct, frozen=True, gc=False, omit_defaults=True):
    """Twin of `commands.RunTask`."""

    task_id: TaskId
    attempt: Attempt
    task: Raw
    traceparent: TraceParent = ""
    reason: Text = ""
    scores: Annotated[list[Score], Meta(max_length=5)] = []
    slots: Slots = 1


class RunTasks(Struct, frozen=True):
    """Twin of `commands.RunTasks`."""

    shard: Annotated[int, Meta(ge=0, lt=64)]
    arm_id: ArmId
    placed_at: Aware
    policy: Text
    tasks: Annotated[list[RunTask], Meta(min_length=1, max_length=64)]


class AttemptUpdate(Struct, frozen=True, gc=False, omit_defaults=True):
    """Twin of `commands.AttemptUpdate`."""

    task_id: TaskId
    attempt: Attempt
    kind: Literal["started", "progress"]
    at: Aware
    fraction: Share = 0.0
    message: Text = ""


class AttemptsUpdated(Struct, frozen=True):
    """Twin of `commands.AttemptsUpdated`."""

    arm_id: ArmId
    instance_id: Token
    updates: Annotated[list[AttemptUpdate], Meta(min_length=1, max_length=64)]


class CallSpend(Struct, frozen=True, omit_defaults=True):
    """Twin of `commands.CallSpend`."""

    task_id: TaskId
    attempt: Attempt
    call_no: Annotated[int, Meta(ge=-MAX_INT, le=MAX_INT)]
    tokens: Count = 0
    micro_dollars: Count = 0
    llm_calls: Count = 0


class SpendReported(Struct, frozen=True):
    """Twin of `commands.SpendReported`."""

    arm_id: ArmId
    instance_id: Token
    calls: Annotated[list[CallSpend], Meta(min_length=1, max_length=64)]


class Provenance(Struct, frozen=True, gc=False, omit_defaults=True):
    """Twin of `results.ProvenanceMetadata`."""

    arm_id: ArmId
    timestamp: Aware
    command_hash: Sha256
    data_sources: LongTexts = []
    model_version: LongText | None = None
    tests_passed: LongTexts = []
    library_lock: LongText | None = None
    chain: LongTexts = []


class Result(Struct, frozen=True, gc=False, omit_defaults=True):
    """Twin of `results.ExecutionResult`; `output` and `error` are passed on unparsed."""

    task_id: TaskId
    attempt: Attempt
    arm_id: Annotated[str, Meta(max_length=63)]
    instance_id: Annotated[str, Meta(max_length=64)]
    status: Status
    execution_time_ms: Count
    provenance: Provenance
    output: Raw = NULL
    confidence: Share = 1.0
    started_at: Aware | None = None
    tokens_used: Count = 0
    cost_dollars: Annotated[float, Meta(ge=0, le=MAX_DOLLARS)] = 0.0
    llm_calls: Count = 0
    error: Raw = NULL
    retryable: bool = False

    def __post_init__(self) -> None:
        """Hold `error` and names to their rules, as the model does."""
        if (self.error is NULL or bytes(self.error) == b"null") != (self.status == "success"):
            raise ValueError("error must be present exactly when status is not success")
        check_names(self.arm_id, self.instance_id)


class ResultsReported(Struct, frozen=True):
    """Twin of `commands.ResultsReported`; each result is read on its own."""

    arm_id: ArmId
    results: Annotated[list[Raw], Meta(min_length=1, max_length=64)]
    traceparents: Annotated[list[TraceParent], Meta(max_length=64)] = []


class ResultKey(Struct, frozen=True, gc=False):
    """The part of a result that frees a slot, and says what a provider was asked for."""

    task_id: str
    attempt: int
    arm_id: str
    instance_id: str = ""
    tokens_used: int = 0
    llm_calls: int = 0
    execution_time_ms: int = 0
    cost_dollars: float = 0.0
    error: Raw = NULL


class ResultKeys(Struct, frozen=True):
    """The part of several results that frees slots."""

    results: list[ResultKey]


class RunningAttempt(Struct, frozen=True, gc=False, omit_defaults=True):
    """Twin of `arms.RunningAttempt`."""

    task_id: TaskId
    attempt: Attempt
    slots: Slots = 1


class Heartbeat(Struct, frozen=True, omit_defaults=True):
    """Twin of `arms.Heartbeat`."""

    arm_id: ArmId
    instance_id: Token
    seq: Count
    status: Annotated[str, Meta(pattern=r"^(ready|draining)\Z")]
    slots: Annotated[int, Meta(ge=0, le=10_000)]
    running: Annotated[list[RunningAttempt], Meta(max_length=10_000)]
    load: Share = 0.0
    avg_latency_ms: Annotated[float, Meta(ge=0)] = 0.0
    error_rate: Share = 0.0
    uptime_s: Annotated[float, Meta(ge=0)] = 0.0
    interval_s: Annotated[float, Meta(gt=0, le=60)] = 5.0
    host: Annotated[str, Meta(max_length=255)] = ""
    provider_wait_s: Annotated[float, Meta(ge=0)] = 0.0


class TaskEvent(Struct, frozen=True, omit_defaults=True):
    """The union of all task events with every field optional but the common ones."""

    type: str
    event_id: EventId
    occurred_at: Aware
    task_id: TaskId
    tenant: Tenant
    seq: Annotated[int, Meta(ge=1, le=MAX_INT)]
    attempt: Annotated[int, Meta(ge=0, le=MAX_ATTEMPT)]
    traceparent: TraceParent = ""
    arm_id: ArmId | None = None
    instance_id: Token | None = None
    policy: str | None = None
    reason: str | None = None
    fraction: float | None = None
    message: str | None = None
    error: Raw | msgspec.UnsetType = msgspec.UNSET
    not_before: Aware | None = None
    passed: list[str] | None = None
    goal: str = ""
    result: Raw | msgspec.UnsetType = msgspec.UNSET
    late_attempt: int | None = None
    status: str | None = None
    proof: str | None = None


class TaskEvents(Struct, frozen=True):
    """Twin of `events.TaskEvents`; each event is read on its own, as a `TaskEvent`."""

    events: Annotated[list[Raw], Meta(min_length=1, max_length=64)]


class TaskEventKey(Struct, frozen=True):
    """The part of a task event that says what it is about; it is only looked up."""

    type: str
    task_id: str


class TasksEnded(Struct, frozen=True):
    """Twin of `events.TasksEnded`; each event is read on its own, as a `TaskEvent`."""

    events: Annotated[list[Raw], Meta(min_length=1, max_length=64)]


class SubmitTask(Struct, frozen=True, gc=False, omit_defaults=True):
    """Twin of `commands.SubmitTask`; the submission itself is checked by its model."""

    submission: Raw
    task_id: TaskId | None = None
    traceparent: TraceParent = ""
    correlation_id: Correlation = ""


class SubmitTasks(Struct, frozen=True):
    """Twin of `queries.SubmitTasks`."""

    tenant: Tenant
    submissions: Annotated[list[SubmitTask], Meta(min_length=1, max_length=1000)]


class Accepted(Struct, frozen=True, gc=False):
    """Twin of `queries.Accepted`."""

    task_id: TaskId
    state: Annotated[str, Meta(pattern=rf"^({'|'.join(TaskState)})\Z")]
    created: bool


class SubmitAnswer(Struct, frozen=True, gc=False, omit_defaults=True):
    """Twin of `queries.SubmitAnswer`."""

    accepted: Accepted | None = None
    problem: dict[str, Any] | None = None


class SubmitAnswers(Struct, frozen=True):
    """Twin of `queries.SubmitAnswers`."""

    answers: list[SubmitAnswer]
