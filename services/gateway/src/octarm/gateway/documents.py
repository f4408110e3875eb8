"""What only the HTTP API says: its own requests and answers."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from octarm.models.commands import MAX_SUBMISSIONS
from octarm.models.contracts import TaskSubmission
from octarm.models.errors import Problem
from octarm.models.ids import ArmId, TaskId
from octarm.models.queries import AttemptView, Cursor, Waiting
from octarm.models.states import JobStatus, TaskState, job_status

# `queries.Limit` as a query string has it: text.
PageSize = Annotated[int, Field(ge=1, le=500)]


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


class TaskFilter(_Wish):
    """Which tasks to list."""

    state: TaskState | None = None
    arm: ArmId | None = None
    label: Annotated[str, StringConstraints(max_length=320)] | None = Field(
        default=None, description="`key` or `key=value`"
    )
    cursor: Cursor = Field(default="", description="From the page before")
    limit: PageSize = 50


class EpisodeFilter(_Wish):
    """Which episodes to list."""

    arm: ArmId | None = None
    task: TaskId | None = None
    cursor: Cursor = Field(default="", description="From the page before")
    limit: PageSize = 50


class Explanation(_Answer):
    """Why a task waits, or why it went where it went."""

    task_id: TaskId
    state: TaskState
    status: JobStatus
    attempt: int
    attempts: list[AttemptView] = Field(description="Each with its decision: policy and scores")
    waiting: Waiting | None = Field(default=None, description="Present while it is queued")
    waiting_problem: Problem | None = Field(
        default=None, description="Why the scheduler did not say what it waits for"
    )


class Health(_Answer):
    """The service is well."""

    status: str = Field(examples=["ok"])
