"""Requests and their replies. Every reply is `{"ok": …}` or `{"problem": …}`."""

from typing import Annotated, Generic, TypeVar

from pydantic import Field, JsonValue, StringConstraints

from octarm.models.arms import ArmCapability, ArmRecord
from octarm.models.commands import MAX_SUBMISSIONS, Message, SubmitTask
from octarm.models.contracts import TaskContract
from octarm.models.errors import Problem
from octarm.models.ids import ArmId, Tag, TaskId, Tenant
from octarm.models.results import ExecutionResult
from octarm.models.scalars import Count, Dollars, Flag, Instant, Stored
from octarm.models.states import CancelProof, TaskState

R = TypeVar("R")
Cursor = Annotated[str, StringConstraints(max_length=200)]
Sum = Annotated[int, Field(strict=True, ge=0)]
Limit = Annotated[int, Field(ge=1, le=500, strict=True, description="Items on the page")]


class Reply(Message, Generic[R]):
    """An answer or a problem, never both."""

    ok: R | None = None
    problem: Problem | None = None


class SubmitTasks(Message):
    """Accept these; answered one by one, in order, once they are durable."""

    tenant: Tenant
    submissions: list[SubmitTask] = Field(min_length=1, max_length=MAX_SUBMISSIONS)


class Accepted(Message):
    """The ledger holds this task; `created` is false when the key was known already."""

    task_id: TaskId
    state: TaskState
    created: Flag


class SubmitAnswer(Message):
    """What became of one submission."""

    accepted: Accepted | None = None
    problem: Problem | None = None


class SubmitAnswers(Message):
    """One answer for each submission, in order."""

    answers: list[SubmitAnswer]


class AttemptView(Message):
    """One try at a task."""

    attempt: Count
    arm_id: ArmId | None = None
    instance_id: str | None = None
    placed_at: Instant | None = None
    started_at: Instant | None = None
    ended_at: Instant | None = None
    outcome: str | None = Field(default=None, description="success, failure, lost, cancelled, …")
    reason: str | None = None
    proof: CancelProof | None = Field(default=None, description="What shows that it stopped")
    decision: dict[str, JsonValue] | None = Field(
        default=None, description="Why it went to this arm: policy, reason, scores"
    )
    tokens_used: Count = 0
    cost_dollars: Dollars = 0.0
    llm_calls: Count = 0


class Amounts(Message):
    """Amounts in the four dimensions of a budget; None: no limit."""

    tokens: Sum | None = None
    cost_dollars: float | None = Field(default=None, ge=0, strict=True, description="US dollars")
    llm_calls: Sum | None = None
    time_ms: Sum | None = Field(default=None, description="Milliseconds of execution")


class BudgetView(Message):
    """Where a budget stands, over all attempts and the children that have ended."""

    granted: Amounts
    reserved: Amounts = Field(description="Held by children that have not ended")
    spent: Amounts = Field(description="Used, as far as the grant covers it")
    overspent: Amounts = Field(description="Used beyond the grant")
    settled: Flag = Field(description="The task has ended; the rest went back to its parent")


class TaskView(Message):
    """A task as its owner may see it."""

    task_id: TaskId
    tenant: Tenant
    state: TaskState
    status: str = Field(description="JobStatus: the state in five words")
    attempt: Count
    arm_id: ArmId | None = None
    instance_id: str | None = None
    created_at: Instant
    updated_at: Instant
    terminal_at: Instant | None = None
    not_before: Instant | None = None
    waits_for: str | None = Field(default=None, description="Why a waiting task is held back")
    cancelling_since: Instant | None = Field(
        default=None, description="Called off, and its arm has yet to stop"
    )
    proof: CancelProof | None = Field(default=None, description="Of a cancelled task")
    error: Problem | None = None
    tokens_used: Count = 0
    cost_dollars: Dollars = 0.0
    llm_calls: Count = 0
    budget: BudgetView | None = Field(
        default=None, description="None when neither it nor a task above it has a limit"
    )
    traceparent: str = ""
    attempts: list[AttemptView] = Field(default_factory=list)
    task: TaskContract


class GetTask(Message):
    """Show one task of a tenant."""

    tenant: Tenant
    task_id: TaskId


class FindTasks(Message):
    """Page through a tenant's tasks, newest first."""

    tenant: Tenant
    state: TaskState | None = None
    arm_id: ArmId | None = None
    label: Annotated[Stored, StringConstraints(max_length=320)] | None = Field(
        default=None, description="`key` or `key=value`"
    )
    cursor: Cursor = ""
    limit: Limit = 50


class TasksFound(Message):
    """One page; an empty cursor means that it was the last."""

    tasks: list[TaskView]
    cursor: str = ""


class GetStates(Message):
    """Ask for the outcome of many tasks at once."""

    tenant: Tenant
    task_ids: list[TaskId] = Field(min_length=1, max_length=1000)


class Outcome(Message):
    """Where a task stands, with its result once it has ended."""

    task_id: TaskId
    state: TaskState
    attempt: Count = 0
    result: ExecutionResult | None = None
    error: Problem | None = None
    cancelling_since: Instant | None = None
    proof: CancelProof | None = None


class CalledOff(Message):
    """One task of a subtree that was called off."""

    task_id: TaskId
    state: TaskState
    arm_id: ArmId | None = None
    cancelling_since: Instant | None = None
    proof: CancelProof | None = None


class Cancelled(Outcome):
    """Where a task stands that was called off, and every task below it."""

    subtree: list[CalledOff] = Field(
        default_factory=list, description="Its descendants, parents first; at most 1,000"
    )


class StatesFound(Message):
    """The outcomes of the tasks that exist; unknown ones are left out."""

    outcomes: list[Outcome]


class CancelTask(Message):
    """Call a task off and all that is open below it; doing it twice is doing it once."""

    tenant: Tenant
    task_id: TaskId
    reason: Annotated[str, StringConstraints(max_length=500)] = ""


class RegisterArm(Message):
    """Make an arm known, or update it; `key` proves ownership on later changes."""

    arm: ArmCapability
    key: Annotated[str, StringConstraints(max_length=256)] = ""


class ArmKey(Message):
    """Name one arm; `key` is needed to change an owned one."""

    arm_id: ArmId
    key: Annotated[str, StringConstraints(max_length=256)] = ""


class FindArms(Message):
    """Arms that have every one of these tags; none given: all arms."""

    capabilities: list[Tag] = Field(default_factory=list, max_length=10)


class ArmsFound(Message):
    """Arms, by id."""

    arms: list[ArmRecord]


class QueueView(Message):
    """What waits at a scheduler."""

    shard: int
    leader: str
    policy: str
    queued: int
    by_tier: dict[str, int]
    by_tenant: dict[str, int]
    blocked: dict[str, int] = Field(description="Reason → tasks that wait for it")
    by_capability: dict[str, int] = Field(
        default_factory=dict, description="Capability → tasks that need it"
    )
    oldest_wait_s: float
    placed_per_s: float = Field(default=0.0, description="Of late")
    in_flight: dict[str, int] = Field(description="Arm → attempts placed and not ended")


class GetQueue(Message):
    """Show the queue of a shard."""

    shard: int = Field(default=0, ge=0, lt=64, strict=True)


class ReconcileLedger(Message):
    """Look now for what nobody owns, and mend it; see the guide "Verifying a ledger"."""

    assume_empty: bool = Field(
        default=False, strict=True, description="The bus has lost its streams: tell all again"
    )


class Reconciled(Message):
    """What one pass of the reconciler mended."""

    mended: dict[str, int] = Field(description="What was mended → number of tasks")


class WhyWaiting(Message):
    """Ask why one task has not been placed."""

    task_id: TaskId


class Waiting(Message):
    """Why a task waits; `position` counts the tasks before it, None when it is not queued here."""

    task_id: TaskId
    position: int | None
    reason: str
    arms: dict[str, str] = Field(default_factory=dict, description="Arm → what keeps it out")
    policy: str = Field(default="", description="Name, or name@digest, of the policy that decides")
    starts_in_s: float | None = Field(
        default=None, description="A guess from what was placed of late, if it waits for its turn"
    )


class Done(Message):
    """It has been done (or had been already)."""

    changed: Flag
