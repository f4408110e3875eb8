"""Submissions that are plain enough to be read without their model.

A struct reads what most submissions are in a fifth of the time. It takes nothing that
`TaskSubmission` would refuse; what it does not take – a mistake, a rarer field, another way to
write the same – goes to the model, which alone says what is refused and why. Both give the same
canonical body, so that a repetition is recognised whichever way it was read. Contract tests hold
all of this.
"""

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct
from pydantic_core import to_json

from octarm.models import hot_types as types
from octarm.models.contracts import (
    MAX_CONTEXT_BYTES,
    MAX_GOAL_CHARS,
    OnDependencyFailure,
    Tier,
)
from octarm.models.hot_types import NOT_UNDERSTOOD
from octarm.models.scalars import MAX_DOLLARS, MAX_INT, MIN_DOLLARS

# Below this no reader has a limit on nesting.
MAX_BRACKETS: Final = 100
# Limits are on JSON as Python writes it: of 1e15 it makes 1000000000000000.0, four times as much.
MAX_PLAIN_BYTES: Final = MAX_CONTEXT_BYTES // 8

Free = dict[str, Any]
Words = Annotated[str, Meta(min_length=1, max_length=10_000)]
Positive = Annotated[int, Meta(ge=1, le=MAX_INT)]


class PlainBudget(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """Twin of `ResourceBudget`."""

    max_tokens: Positive | None = None
    max_time_seconds: Positive | None = None
    max_cost_dollars: Annotated[float, Meta(ge=MIN_DOLLARS, le=MAX_DOLLARS)] | None = None
    max_llm_calls: Positive | None = None
    max_retries: Annotated[int, Meta(ge=0, le=10)] = 3


class PlainSubmission(
    Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, gc=False
):
    """Twin of `TaskSubmission` without times, retry policy and typed criteria."""

    goal: Annotated[str, Meta(min_length=1, max_length=MAX_GOAL_CHARS)]
    constraints: Annotated[Free, Meta(max_length=20)] = {}
    context: Free = {}
    acceptance_criteria: Annotated[list[Words], Meta(max_length=20)] = []
    budget: PlainBudget = PlainBudget()
    required_capabilities: Annotated[list[types.Tag], Meta(max_length=10)] = []
    assigned_arm: types.ArmId | None = None
    parent_task_id: types.TaskId | None = None
    depends_on: Annotated[list[types.TaskId], Meta(max_length=100)] = []
    on_dependency_failure: OnDependencyFailure = "fail"
    priority: Annotated[int, Meta(ge=1, le=10)] = 5
    tier: Tier | None = None
    not_before: None = None
    deadline: None = None
    timeout_seconds: Annotated[int, Meta(ge=1, le=1800)] = 300
    retry: None = None
    slots: types.Slots = 1
    security_policy: Annotated[str, Meta(max_length=128)] | None = None
    idempotency_key: Annotated[str, Meta(min_length=1, max_length=128)] | None = None
    labels: types.Labels = {}

    @property
    def effective_tier(self) -> Tier:
        """The tier given, or the one that the priority implies."""
        return self.tier or ("interactive" if self.priority <= 5 else "batch")

    def body(self) -> bytes:
        """Write what was asked for, as the model writes it: without defaults, and without key."""
        asked = {
            name: value
            for name, value in msgspec.to_builtins(self).items()
            if value != _DEFAULTS[name]
        }
        asked.pop("idempotency_key", None)
        if "required_capabilities" in asked:
            asked["required_capabilities"] = sorted(set(asked["required_capabilities"]))
        return to_json(asked)


_DEFAULTS: Final[dict[str, Any]] = {
    "goal": None,
    **{field.name: field.default for field in msgspec.structs.fields(PlainSubmission)[1:]},
    "budget": {},
}
_decode: Final = msgspec.json.Decoder(PlainSubmission).decode


def read_plain(data: bytes) -> PlainSubmission | None:
    """Read a plain submission; None when the model is to say what it makes of it."""
    brackets = data.count(b"{") + data.count(b"[")
    if brackets > MAX_BRACKETS or len(data) > MAX_PLAIN_BYTES or b"\\u0000" in data:
        return None
    try:
        plain = _decode(data)
    except NOT_UNDERSTOOD:
        return None
    return None if plain.goal.isspace() else plain
