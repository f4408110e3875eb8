"""What the ledger commits and gives back to its use cases."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from msgspec import Struct

from octarm.common.bus.publisher import Outgoing
from octarm.ledger.domain.budgets import UNLIMITED, Limits
from octarm.models.contracts import Tier
from octarm.models.errors import OctarmError
from octarm.models.states import CancelProof, TaskState


@dataclass(frozen=True, slots=True)
class Entry:
    """An outbox row that is committed and has yet to be published."""

    seq: int
    messages: list[Outgoing] = field(repr=False)


class Known(Struct, frozen=True, gc=False):
    """The ledger holds this task; `created` is false when it did before."""

    task_id: str
    state: TaskState
    created: bool


AcceptAnswer = Known | OctarmError


class Name(Struct, frozen=True, gc=False):
    """By what a submission can be recognised as one that came before."""

    tenant: str
    idem_key: str | None
    task_id: str | None


Mark = str | tuple[str, str]
"""A task's id, or a tenant and its idempotency key."""


class Moved(Struct, frozen=True, gc=False):
    """One task's committed transition; its events are numbered `first_seq` and following."""

    task_id: str
    tenant: str
    attempt: int
    old: TaskState
    new: TaskState
    first_seq: int
    last_seq: int
    traceparent: str
    goal: str
    at: datetime
    arm_id: str | None = None
    instance_id: str | None = None
    not_before: datetime | None = None
    dispatch_seq: int | None = None
    budgeted: bool = True
    """Whether it has a budget to be kept; true when that was not looked up."""
    error: bytes = b""
    """The problem, as JSON, that ended it in the ledger itself."""
    reason: str | None = None
    proof: str | None = None


@dataclass(frozen=True, slots=True)
class Woken:
    """A waiting task that has become ready."""

    moved: Moved
    tier: Tier
    priority: int
    deadline: datetime | None
    contract: bytes = field(repr=False)
    left: Limits = UNLIMITED
    after: tuple[str, ...] = ()
    """Sampled traceparents of those whose end made it ready, among those that it waited for."""


@dataclass(frozen=True, slots=True)
class Stray:
    """News that changed nothing: what the ledger says of its task instead."""

    task_id: str
    attempt: int
    state: TaskState
    current_attempt: int
    outcome: str | None
    ended_at: datetime | None = None
    arm_id: str | None = None
    cancelling: bool = False

    def is_foreign_to(self, arm_id: str) -> bool:
        """Whether `arm_id` speaks of an attempt that is another arm's, or nobody's yet."""
        awaited = self.state is TaskState.WAITING and self.attempt == self.current_attempt
        return awaited or self.attempt > self.current_attempt or self.arm_id not in (None, arm_id)

    @property
    def is_duplicate(self) -> bool:
        """Whether this attempt's own result was taken already."""
        return self.outcome in ("success", "failure", "partial")


@dataclass(frozen=True, slots=True)
class Stopping:
    """An attempt that was called off and whose end has yet to be proven.

    `overdue`: the arm had its time; `leaseless`: no heartbeat has listed it for too long.
    """

    task_id: str
    attempt: int
    arm_id: str
    instance_id: str | None
    dispatch_seq: int | None
    started: bool
    reason: str
    overdue: bool
    leaseless: bool


@dataclass(frozen=True, slots=True)
class Stopped:
    """A proof that an attempt has stopped; a result of `arm_id` proves only its own."""

    task_id: str
    attempt: int
    proof: CancelProof
    arm_id: str | None = None


@dataclass(frozen=True, slots=True)
class Unwanted:
    """A queued attempt that nobody is going to place; `error` is the problem document."""

    task_id: str
    attempt: int
    error: str


Announce = Callable[[list[Moved]], list[Outgoing]]
