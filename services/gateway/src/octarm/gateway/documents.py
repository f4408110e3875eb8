"""What only the HTTP API says: its own requests and answers."""

from typing import Annotated, Any, Final, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from octarm.models.commands import MAX_SUBMISSIONS
from octarm.models.contracts import TaskSubmission
from octarm.models.errors import Problem
from octarm.models.ids import ArmId, TaskId
from octarm.models.queries import AttemptView, Cursor, Waiting
from octarm.models.scalars import MAX_INT, Instant, Stored
from octarm.models.scaling import ArmDemand
from octarm.models.shedding import Switching
from octarm.models.states import JobStatus, TaskState, job_status

# `queries.Limit` as a query string has it: text.
PageSize = Annotated[int, Field(ge=1, le=500)]

# It selects by subject, so nothing but a token may stand there.
TOKEN_OR_NONE: Final = r"^[A-Za-z0-9_-]{0,64}$"


class _Wish(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class Receipt(_Answer):
    """The task is accepted: it is durable and will end."""

    task_id: TaskId
    status: JobStatus = Field(description="The state in five words")
    state: TaskState
    queue_position: int | None = Field(default=None, description="Tasks before it, when known")
    events_url: str = Field(description="Server-sent events of the task")

    @classmethod
    def of(cls, task_id: str, state: TaskState) -> "Receipt":
        """Give the receipt of a task in a state."""
        return cls(
            task_id=task_id,
            status=job_status(state),
            state=state,
            events_url=f"/v1/tasks/{task_id}/events",
        )


class BatchSubmission(_Wish):
    """Several tasks at once."""

    tasks: list[TaskSubmission] = Field(min_length=1, max_length=MAX_SUBMISSIONS)


class RawBatch(_Wish):
    """Several tasks, each of which is checked on its own."""

    tasks: list[dict[str, Any]] = Field(min_length=1, max_length=MAX_SUBMISSIONS)


class BatchAnswer(_Answer):
    """What became of one task of a batch."""

    status: int = Field(description="HTTP status that the task alone would have got")
    task: Receipt | None = None
    problem: Problem | None = None


class BatchAnswers(_Answer):
    """One answer for each task, in order."""

    answers: list[BatchAnswer]


class Cancellation(_Wish):
    """Why a task is called off."""

    reason: Annotated[str, StringConstraints(max_length=500)] = ""


class ArmOwner(_Wish):
    """Proof of ownership of an arm."""

    key: Annotated[str, StringConstraints(max_length=256)] = Field(
        default="", description="The key that the arm was registered with; empty when unowned"
    )


class SwitchToPut(Switching):
    """How the load-shedding switch is to stand."""

    model_config = ConfigDict(extra="forbid")


class TaskFilter(_Wish):
    """Which tasks to list."""

    state: TaskState | None = None
    arm: ArmId | None = None
    label: Annotated[Stored, StringConstraints(max_length=320)] | None = Field(
        default=None, description="`key` or `key=value`"
    )
    cursor: Cursor = Field(default="", description="From the page before")
    limit: PageSize = 50


class LetterFilter(_Wish):
    """Which dead letters: all of what is given must fit."""

    origin: Annotated[str, StringConstraints(pattern=TOKEN_OR_NONE)] = Field(
        default="", description="The consumer that gave the message up"
    )
    reason: Annotated[str, StringConstraints(max_length=200)] = Field(
        default="", description="A part of the reason, in any case of letters"
    )
    tenant: Annotated[str, StringConstraints(max_length=63)] = ""
    since: Instant | None = Field(default=None, description="Buried at this time or later")
    after: int = Field(default=0, ge=0, le=MAX_INT, description="Behind this sequence")
    until: int | None = Field(
        default=None, ge=0, le=MAX_INT, description="Up to this sequence; else the newest of now"
    )


class LetterPage(LetterFilter):
    """Which dead letters to list."""

    limit: PageSize = 50


class LetterSelection(LetterFilter):
    """Which dead letters to act on: by sequence, by filter, or every one.

    An empty selection is refused: all of them must be asked for.
    """

    seqs: list[Annotated[int, Field(ge=1, le=MAX_INT)]] | None = Field(
        default=None, min_length=1, max_length=500
    )
    every: bool = Field(default=False, alias="all", description="When there is no filter")
    limit: PageSize = 500
    dry_run: bool = Field(default=False, description="Only count what would be done")

    @model_validator(mode="after")
    def _selects(self) -> Self:
        filtered = bool(self.origin or self.reason or self.tenant or self.since)
        if (self.seqs is not None) + filtered + self.every != 1:
            raise ValueError("give seqs, or a filter, or all=true")
        return self


class LetterView(_Answer):
    """A dead letter; what looks like a secret is left out of its texts."""

    seq: int = Field(description="Its sequence, by which it is redriven or dropped")
    buried_at: AwareDatetime
    reason: str
    origin: str = Field(description="The consumer that gave the message up")
    subject: str
    stream_seq: int = Field(description="Where it stood in its stream")
    msg_id: str
    published_at: AwareDatetime
    deliveries: int
    redrives: int = Field(description="How often it was sent back before")
    tenant: str = Field(description="Empty: unknown, or of several")
    task_id: str
    attempt: int
    size_bytes: int
    first_bytes: str
    redrivable: bool = Field(description="Whether it was kept whole")


class LetterWhole(LetterView):
    """A dead letter with its headers and its payload as text."""

    headers: dict[str, str]
    payload: str | None = Field(description="The first 64 KiB; null when it was not kept")
    not_redrivable_because: str = ""


class LettersFound(_Answer):
    """A page of dead letters, oldest first."""

    letters: list[LetterView]
    after: int = Field(description="Ask for the next page with it")
    until: int = Field(description="And with it, to see no letters that came meanwhile")
    more: bool


class LetterFailure(_Answer):
    """A letter that could not be handled, and why; it stays."""

    seq: int
    reason: str


class LettersHandled(_Answer):
    """What became of one round of redriving or dropping."""

    matched: int
    done: int = Field(description="0 in a dry run")
    gone: int = Field(description="Taken out by somebody else meanwhile")
    failed: list[LetterFailure]
    after: int = Field(description="Go on with it")
    until: int = Field(description="And with it: what dies anew meanwhile is not caught again")
    more: bool


class Explanation(_Answer):
    """Why a task waits, or why it went where it went."""

    task_id: TaskId
    state: TaskState
    status: JobStatus
    attempt: int
    attempts: list[AttemptView] = Field(description="Each with its decision: policy and scores")
    policy: str = Field(
        default="", description="What placed its last attempt: name, or name@digest of a version"
    )
    reason: str = Field(default="", description="Why it went to that arm")
    waiting: Waiting | None = Field(default=None, description="Present while it is queued")
    waiting_problem: Problem | None = Field(
        default=None, description="Why the scheduler did not say what it waits for"
    )


class Health(_Answer):
    """The service is well."""

    status: str = Field(examples=["ok"])


class ScalingFigures(_Answer):
    """Work for an arm in slots; one that scales it divides `demand_slots` by `slots`."""

    arm_id: ArmId
    runnable_slots: int = Field(description="Of queued tasks that it could run")
    running_slots: int = Field(description="Of attempts that it has")
    demand_slots: int = Field(description="Both; 0 only when nothing waits and nothing runs")
    slots: int = Field(description="Of one instance")
    instances: int = Field(description="How many it takes to do all of it at the same time")

    @classmethod
    def of(cls, demand: ArmDemand, slots: int) -> "ScalingFigures":
        """Give the figures of an arm whose instances have so many slots each."""
        total = demand.runnable_slots + demand.running_slots
        return cls(
            arm_id=demand.arm_id,
            runnable_slots=demand.runnable_slots,
            running_slots=demand.running_slots,
            demand_slots=total,
            slots=slots,
            instances=-(-total // slots),
        )
