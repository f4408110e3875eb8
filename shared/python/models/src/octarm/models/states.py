"""The states of a task and the five words that clients may prefer."""

from enum import StrEnum
from typing import Final, Literal


class TaskState(StrEnum):
    """Where a task stands; the orchestrator's lifecycle table says what may follow what."""

    WAITING = "waiting"
    QUEUED = "queued"
    DISPATCHED = "dispatched"
    RUNNING = "running"
    VALIDATING = "validating"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    REJECTED = "rejected"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing leaves this state."""
        return self._value_ in _ENDED


TERMINAL: Final = frozenset(
    {
        TaskState.COMPLETED,
        TaskState.FAILED,
        TaskState.CANCELLED,
        TaskState.TIMED_OUT,
        TaskState.REJECTED,
    }
)


CancelProof = Literal["never_started", "stopped_by_arm", "lease_ended", "forced"]
"""What shows that a cancelled task's work has stopped; `forced`: nothing did in time."""


class JobStatus(StrEnum):
    """The short form of a task's state."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


_ENDED: Final = frozenset(state.value for state in TERMINAL)
_JOB_STATUS: Final = {
    TaskState.WAITING: JobStatus.QUEUED,
    TaskState.QUEUED: JobStatus.QUEUED,
    TaskState.DISPATCHED: JobStatus.RUNNING,
    TaskState.RUNNING: JobStatus.RUNNING,
    TaskState.VALIDATING: JobStatus.RUNNING,
    TaskState.COMPLETED: JobStatus.COMPLETED,
    TaskState.FAILED: JobStatus.FAILED,
    TaskState.TIMED_OUT: JobStatus.FAILED,
    TaskState.REJECTED: JobStatus.FAILED,
    TaskState.CANCELLED: JobStatus.CANCELLED,
}


def job_status(state: TaskState) -> JobStatus:
    """Translate a state into the five words."""
    return _JOB_STATUS[state]
