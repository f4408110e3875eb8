"""Ending waiting tasks that nobody is going to place, as the scheduler asks for it."""

from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints

from octarm.models.commands import Message
from octarm.models.ids import TaskId
from octarm.models.scalars import Attempt

MAX_REJECTIONS: Final = 256

RejectionCode = Literal["POLICY_REJECTED", "QUEUE_FULL"]


class Rejection(Message):
    """One attempt that waits and shall not be placed."""

    task_id: TaskId
    attempt: Attempt
    code: RejectionCode = Field(
        description="POLICY_REJECTED for good, QUEUE_FULL for now: it may be submitted again"
    )
    reason: Annotated[str, StringConstraints(max_length=2000)] = ""


class RejectTasks(Message):
    """End these as rejected, but for those that do not wait any more; twice is once."""

    tasks: list[Rejection] = Field(min_length=1, max_length=MAX_REJECTIONS)


class TasksRejected(Message):
    """The tasks that this request has ended; the others had been placed, or had ended."""

    task_ids: list[TaskId]
