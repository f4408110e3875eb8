"""Rows of the simulated ledger."""

from dataclasses import dataclass
from datetime import datetime

from octarm.ledger.domain.tasks import NewTask
from octarm.models.states import CancelProof, TaskState


@dataclass(slots=True, eq=False)
class TaskRow:
    """A row of `ledger.task`."""

    task: NewTask
    state: TaskState
    event_seq: int
    updated_at: datetime
    attempt: int = 1
    root_id: str = ""
    depth: int = 0
    arm_id: str | None = None
    instance_id: str | None = None
    dispatch_seq: int | None = None
    lease_until: datetime | None = None
    not_before: datetime | None = None
    error: str | None = None
    terminal_at: datetime | None = None
    cancelling_since: datetime | None = None
    proof: CancelProof | None = None
    blocked: bool = False


@dataclass(slots=True, eq=False)
class AttemptRow:
    """A row of `ledger.attempt`."""

    arm_id: str | None
    instance_id: str | None = None
    placed_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    outcome: str | None = None
    reason: str | None = None
