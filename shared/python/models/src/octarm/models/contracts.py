"""The TaskContract: what a client asks for, with its limits.

`TaskSubmission` is the part a client writes (unknown fields are refused);
`TaskContract` is what travels inside (unknown fields are ignored, so that producers may go
first) with the fields that the server sets.
"""

import json
import re
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from octarm.models.ids import ArmId, Tags, TaskId, Tenant
from octarm.models.scalars import (
    MAX_DOLLARS,
    MAX_INT,
    MIN_DOLLARS,
    Count,
    Instant,
    Share,
    Slots,
    Stored,
)

MAX_CONTEXT_BYTES: Final = 128 * 1024
_NUL: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
MAX_GOAL_CHARS: Final = 10_000
SCHEMA_VERSION: Final = "1"
PriorityWord = Literal["critical", "high", "medium", "low"]
PRIORITY_WORDS: Final[dict[str, int]] = {"critical": 1, "high": 3, "medium": 5, "low": 8}
LAST_YEAR: Final = 2999

Tier = Literal["interactive", "batch"]
OnDependencyFailure = Literal["fail", "skip", "continue"]
Priority = Annotated[
    int,
    Field(ge=1, le=10, strict=True),
    BeforeValidator(
        lambda value: PRIORITY_WORDS.get(value, value) if isinstance(value, str) else value,
        json_schema_input_type=Annotated[int, Field(ge=1, le=10)] | PriorityWord,
    ),
    Field(description="1 is the most urgent; words are read as 1/3/5/8"),
]
Criterion10k = Annotated[Stored, StringConstraints(min_length=1, max_length=10_000)]
PositiveInt53 = Annotated[int, Field(strict=True, ge=1, le=MAX_INT)]
LABEL_KEY_PATTERN: Final = r"^[A-Za-z0-9_./-]{1,63}$"
MAX_LABEL_CHARS: Final = 256
LabelKey = Annotated[str, StringConstraints(pattern=LABEL_KEY_PATTERN)]
LabelValue = Annotated[Stored, StringConstraints(max_length=MAX_LABEL_CHARS)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class JsonSchemaCriterion(_Part):
    """The output validates against a JSON Schema (2020-12)."""

    kind: Literal["json_schema"]
    json_schema: dict[str, JsonValue]


class RegexCriterion(_Part):
    """The output, as text, matches a regular expression somewhere."""

    kind: Literal["regex"]
    pattern: Annotated[Stored, StringConstraints(min_length=1, max_length=1000)]


class ContainsCriterion(_Part):
    """The output, as text, contains a string."""

    kind: Literal["contains"]
    text: Criterion10k


class ExitCodeCriterion(_Part):
    """The command ended with this exit code."""

    kind: Literal["exit_code"]
    code: int = Field(ge=0, le=255, strict=True)


class NumericCriterion(_Part):
    """The output is a number within `tolerance` of `value`."""

    kind: Literal["numeric"]
    value: float = Field(strict=True)
    tolerance: float = Field(default=0.0, ge=0, strict=True)


class JudgeCriterion(_Part):
    """A judge decides by this rubric."""

    kind: Literal["judge"]
    rubric: Criterion10k


class HumanCriterion(_Part):
    """A person decides."""

    kind: Literal["human"]
    question: Criterion10k


Criterion = Annotated[
    JsonSchemaCriterion
    | RegexCriterion
    | ContainsCriterion
    | ExitCodeCriterion
    | NumericCriterion
    | JudgeCriterion
    | HumanCriterion,
    Field(discriminator="kind"),
]
AcceptanceCriterion = Criterion10k | Criterion


class ResourceBudget(_Part):
    """What a task may spend; None is unlimited."""

    max_tokens: PositiveInt53 | None = None
    max_time_seconds: PositiveInt53 | None = Field(default=None, description="Seconds")
    max_cost_dollars: float | None = Field(
        default=None,
        ge=MIN_DOLLARS,
        le=MAX_DOLLARS,
        strict=True,
        description="US dollars; rounded to the micro-dollar, an integer inside",
    )
    max_llm_calls: PositiveInt53 | None = None
    max_retries: int = Field(default=3, ge=0, le=10, strict=True)


class BudgetLeft(BaseModel):
    """What of its budget, and of those above it, a task may still use; None is unlimited."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    tokens: Count | None = None
    micro_dollars: Count | None = None
    llm_calls: Count | None = None
    time_ms: Count | None = Field(default=None, description="Milliseconds of execution")


class RetryPolicy(_Part):
    """How often and how slowly to try again."""

    max_attempts: int = Field(default=4, ge=1, le=11, strict=True)
    initial_seconds: float = Field(default=1.0, ge=0, le=3600, strict=True)
    factor: float = Field(default=2.0, ge=1, le=10, strict=True)
    max_seconds: float = Field(default=60.0, ge=0, le=86_400, strict=True)
    jitter: Share = Field(default=0.5, description="Share of the delay, both ways")


def _check_json(value: Any) -> None:
    """Hold free JSON to its limits, whoever made it: a parser or Python code."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, default=BaseModel.model_dump)
    if len(text.encode()) > MAX_CONTEXT_BYTES:
        raise ValueError(f"must be at most {MAX_CONTEXT_BYTES} bytes as JSON; pass a dataref")
    if "\\u0000" in text and _NUL.search(text):
        raise ValueError("must not contain U+0000")


class TaskSubmission(BaseModel):
    """What a client may say about a task."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    goal: Annotated[Stored, StringConstraints(min_length=1, max_length=MAX_GOAL_CHARS)]
    constraints: dict[str, JsonValue] = Field(
        default_factory=dict, max_length=20, description="Hard constraints; ≤ 128 KiB as JSON"
    )
    context: dict[str, JsonValue] = Field(
        default_factory=dict, description="≤ 128 KiB as JSON; larger input by reference"
    )
    acceptance_criteria: list[AcceptanceCriterion] = Field(
        default_factory=list, max_length=20, description="A string means that a judge decides"
    )
    budget: ResourceBudget = ResourceBudget()
    required_capabilities: Tags = Field(
        default=frozenset(), max_length=10, description="The arm must have them all"
    )
    assigned_arm: ArmId | None = Field(
        default=None, description="Pins the arm; never falls back silently"
    )
    parent_task_id: TaskId | None = None
    depends_on: list[TaskId] = Field(
        default_factory=list, max_length=100, description="It waits until these have completed"
    )
    on_dependency_failure: OnDependencyFailure = Field(
        default="fail",
        description="When a dependency does not complete: fail, end as cancelled, or run once"
        " all have ended",
    )
    priority: Priority = 5
    tier: Tier | None = Field(
        default=None, description="Default: interactive when priority ≤ 5, else batch"
    )
    not_before: Instant | None = Field(
        default=None, description="Waits until then; at most a year ahead"
    )
    deadline: Instant | None = Field(default=None, description="In the future at accept")
    timeout_seconds: int = Field(
        default=300, ge=1, le=1800, strict=True, description="Seconds per attempt"
    )
    retry: RetryPolicy | None = Field(
        default=None,
        description="Default: what the arm declares; budget.max_retries bounds it either way",
    )
    slots: Slots = Field(default=1, description="How many of its arm's slots it takes")
    security_policy: Annotated[Stored, StringConstraints(max_length=128)] | None = None
    idempotency_key: Annotated[Stored, StringConstraints(min_length=1, max_length=128)] | None = (
        None
    )
    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict, max_length=20)

    @field_validator("goal")
    @classmethod
    def _not_blank(cls, goal: str) -> str:
        if goal.isspace():
            raise ValueError("must not be blank")
        return goal

    @field_validator("constraints", "context", "acceptance_criteria")
    @classmethod
    def _can_be_stored(cls, value: Any) -> Any:
        if value:
            _check_json(value)
        return value

    @field_validator("not_before", "deadline")
    @classmethod
    def _plausible(cls, time: Instant | None) -> Instant | None:
        if time is not None and time.year > LAST_YEAR:
            raise ValueError(f"must not be after the year {LAST_YEAR}")
        return time

    @field_validator("deadline")
    @classmethod
    def _after_its_start(cls, deadline: Instant | None, info: ValidationInfo) -> Instant | None:
        start = info.data.get("not_before")
        if deadline is not None and start is not None and deadline <= start:
            raise ValueError("must be after not_before")
        return deadline

    @property
    def effective_tier(self) -> Tier:
        """The tier given, or the one that the priority implies."""
        return self.tier or ("interactive" if self.priority <= 5 else "batch")


class TaskContract(TaskSubmission):
    """A submission with what the server adds; travels on the bus."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    task_id: TaskId
    tenant: Tenant
    created_at: Instant
    schema_version: Literal["1"] = SCHEMA_VERSION
    budget_left: BudgetLeft | None = Field(
        default=None,
        description="In commands only: what was left, where that is less than `budget`, when the"
        " attempt became ready",
    )

    @field_validator("constraints", "context", "acceptance_criteria")
    @classmethod
    def _can_be_stored(cls, value: Any) -> Any:
        """Take for granted what was checked when it was submitted; every hop reads this."""
        return value

    @model_validator(mode="after")
    def _not_its_own_relative(self) -> Self:
        if self.task_id in self.depends_on or self.task_id == self.parent_task_id:
            raise ValueError("a task can neither depend on itself nor be its own parent")
        return self
