"""What a submission becomes before it is written."""

import hashlib
from datetime import datetime, timedelta
from typing import Final

import msgspec

from octarm.ledger.domain.budgets import UNLIMITED, Limits, grant_of
from octarm.ledger.domain.submissions import PlainSubmission
from octarm.ledger.domain.tenants import NO_RULES, TenantRules
from octarm.models import hot
from octarm.models.contracts import SCHEMA_VERSION, ResourceBudget, TaskSubmission, Tier
from octarm.models.errors import InvalidRequest

GOAL_CHARS: Final = 500
FARTHEST_START: Final = timedelta(days=366)
START_GRACE: Final = timedelta(minutes=15)
_HASHED_WITHOUT: Final = {"idempotency_key"}
_encode = msgspec.json.Encoder().encode
Submission = TaskSubmission | PlainSubmission


class NewTask(msgspec.Struct, frozen=True, gc=False):
    """A task that is ready to be written to the ledger."""

    task_id: str
    tenant: str
    idem_key: str | None
    req_hash: bytes
    not_before: datetime | None
    deadline: datetime | None
    timeout_s: int
    max_retries: int
    priority: int
    tier: Tier
    parent_id: str | None
    depends_on: tuple[str, ...]
    on_dependency_failure: str
    needs: list[str]
    assigned_arm: str | None
    labels: dict[str, str]
    goal: str
    contract: bytes
    traceparent: str
    created_at: datetime
    grant: Limits = UNLIMITED
    left: Limits = UNLIMITED
    """What it may use where that is less than its grant; set by the ledger."""
    blocked: bool = False
    """Whether a dependency keeps it waiting."""
    slots: int = 1
    has_quota: bool = False
    """Whether its tenant's tasks wait for room in a quota."""

    @property
    def held(self) -> bool:
        """Whether it waits for room in its tenant's quota, and for nothing else."""
        return self.has_quota and not self.blocked and self.not_before is None

    @property
    def waits(self) -> bool:
        """Whether something must happen before it may be queued."""
        return self.has_quota or self.blocked or self.not_before is not None


def new_task(
    submission: Submission,
    *,
    task_id: str,
    tenant: str,
    traceparent: str,
    now: datetime,
    rules: TenantRules = NO_RULES,
) -> NewTask:
    """Turn a submission into a ledger row; InvalidRequest when its times make no sense."""
    _check(submission, task_id, now)
    asked = _body(submission)
    given = _with_budget(submission, rules)
    body = asked if given is submission else _body(given)
    return NewTask(
        task_id=task_id,
        tenant=tenant,
        idem_key=submission.idempotency_key,
        req_hash=hashlib.sha256(asked).digest(),
        not_before=_start(submission.not_before, now),
        deadline=submission.deadline,
        timeout_s=submission.timeout_seconds,
        max_retries=max_retries(given),
        priority=submission.priority,
        tier=submission.effective_tier,
        parent_id=submission.parent_task_id,
        depends_on=tuple(dict.fromkeys(submission.depends_on)),
        on_dependency_failure=submission.on_dependency_failure,
        needs=sorted(set(submission.required_capabilities)),
        assigned_arm=submission.assigned_arm,
        labels=submission.labels,
        goal=without_nul(submission.goal[:GOAL_CHARS]),
        contract=_contract(given, body, task_id, tenant=tenant, now=now),
        traceparent=traceparent,
        created_at=now,
        blocked=bool(submission.depends_on),
        slots=submission.slots,
        has_quota=rules.max_in_flight is not None,
        grant=grant_of(given.budget),
    )


def _check(submission: Submission, task_id: str, now: datetime) -> None:
    if submission.deadline is not None and submission.deadline <= now:
        raise InvalidRequest(
            "the deadline has passed already", "Choose a later deadline.", "DEADLINE_UNMET"
        )
    if task_id in submission.depends_on or task_id == submission.parent_task_id:
        raise InvalidRequest("a task can neither depend on itself nor be its own parent")


def _body(submission: Submission) -> bytes:
    if isinstance(submission, PlainSubmission):
        return submission.body()
    return submission.model_dump_json(exclude=_HASHED_WITHOUT, exclude_defaults=True).encode()


def _with_budget(submission: Submission, rules: TenantRules) -> Submission:
    """Give a task that brings no budget its tenant's; a child has its parent's to draw on.

    Where there is such a budget nobody reads submissions plainly.
    """
    default = rules.default_budget
    if default is None or isinstance(submission, PlainSubmission):
        return submission
    if submission.budget != ResourceBudget() or submission.parent_task_id is not None:
        return submission
    return submission.model_copy(update={"budget": default})


def max_retries(submission: Submission) -> int:
    """Give how often it may be tried again: the smaller of what budget and policy allow."""
    budget = submission.budget.max_retries
    return budget if submission.retry is None else min(budget, submission.retry.max_attempts - 1)


def _start(not_before: datetime | None, now: datetime) -> datetime | None:
    """Check a start time; None when it need not be waited for.

    Clocks differ and requests are repeated: a time that has passed not long ago is now.
    """
    if not_before is None:
        return None
    if not_before > now + FARTHEST_START:
        raise InvalidRequest(
            "not_before is more than a year ahead", "Submit it later.", "INVALID_PARAMETER"
        )
    if not_before < now - START_GRACE:
        raise InvalidRequest(
            "not_before lies in the past", "Leave it out to start now.", "INVALID_PARAMETER"
        )
    return not_before if not_before > now else None


class _Added(msgspec.Struct, omit_defaults=True, gc=False):
    task_id: str
    tenant: str
    created_at: datetime
    schema_version: str
    idempotency_key: str | None = None


def _contract(
    submission: Submission, body: bytes, task_id: str, *, tenant: str, now: datetime
) -> bytes:
    """Add what the server sets to a submission's JSON object (goal is always in it)."""
    added = _Added(task_id, tenant, now, SCHEMA_VERSION, submission.idempotency_key)
    return body[:-1] + b"," + _encode(added)[1:]


def ready_task(task: NewTask, *, attempt: int = 1) -> hot.ReadyTask:
    """Say to the scheduler what a fresh task asks for."""
    return hot.ReadyTask(
        task_id=task.task_id,
        attempt=attempt,
        tenant=task.tenant,
        tier=task.tier,
        priority=task.priority,
        needs=task.needs,
        queued_at=task.created_at,
        task=msgspec.Raw(with_left(task.contract, task.left)),
        assigned_arm=task.assigned_arm,
        labels=task.labels,
        deadline=task.deadline,
        traceparent=task.traceparent,
        slots=task.slots,
    )


class _Wanted(msgspec.Struct):
    required_capabilities: list[str] = []
    assigned_arm: str | None = None
    labels: dict[str, str] = {}
    slots: int = 1


_wanted = msgspec.json.Decoder(_Wanted).decode


def ready_again(
    contract: bytes,
    *,
    task_id: str,
    attempt: int,
    tenant: str,
    tier: Tier,
    priority: int,
    deadline: datetime | None,
    traceparent: str,
    queued_at: datetime,
    left: Limits = UNLIMITED,
) -> hot.ReadyTask:
    """Say to the scheduler what a task of the ledger asks for."""
    wanted = _wanted(contract)
    return hot.ReadyTask(
        task_id=task_id,
        attempt=attempt,
        tenant=tenant,
        tier=tier,
        priority=priority,
        needs=wanted.required_capabilities,
        queued_at=queued_at,
        task=msgspec.Raw(with_left(contract, left)),
        assigned_arm=wanted.assigned_arm,
        labels=wanted.labels,
        deadline=deadline,
        traceparent=traceparent,
        slots=wanted.slots,
    )


def with_left(contract: bytes, left: Limits) -> bytes:
    """Add to a contract what its task may still use, for whoever runs it."""
    if left == UNLIMITED:
        return contract
    names = ("tokens", "micro_dollars", "llm_calls", "time_ms")
    amounts = {name: amount for name, amount in zip(names, left, strict=True) if amount is not None}
    return contract[:-1] + b',"budget_left":' + _encode(amounts) + b"}"


def without_nul(text: str) -> str:
    """Replace NUL, which a text column cannot hold; bodies keep it, escaped."""
    return text.replace("\0", "\ufffd")
