"""Make the episode of a finished task from its terminal event.

Hot: the event's JSON is passed on where it can be, never taken apart.
"""

import hashlib
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType
from pydantic_core import from_json

from octarm.models import hot
from octarm.models.episodes import DEFAULT_TTL_S
from octarm.models.hot_types import ArmId, Aware, TaskId, Tenant, TraceParent
from octarm.models.ids import with_prefix
from octarm.models.scalars import MAX_ATTEMPT

MAX_OUTPUT_BYTES: Final = 16 * 1024
MAX_DETAIL_CHARS: Final = 1000


class NotAnEnding(ValueError):
    """The message is not the terminal event of a task."""


class Episode(Struct, frozen=True, gc=False):
    """An episode as it is stored: what is searched by, and the whole as JSON.

    `body` is an `EpisodicMemory`; `created_at` is ISO 8601 with zone.
    """

    tenant: str
    episode_id: str
    arm_id: str | None
    created_at: str
    body: str
    task_id: str | None = None
    """Of an episode that an arm opened; that of a finished task has the task's id already."""
    tags: tuple[str, ...] = ()
    retention: str = "normal"


class _Result(Struct, gc=False):
    status: str
    instance_id: str
    execution_time_ms: int
    output: Raw = hot.NULL
    confidence: float = 1.0
    tokens_used: int = 0
    cost_dollars: float = 0.0
    llm_calls: int = 0
    error: Raw = hot.NULL


class Ending(Struct, gc=False):
    """What an episode takes of a terminal event."""

    type: Literal[
        "task.completed", "task.failed", "task.cancelled", "task.timed_out", "task.rejected"
    ]
    occurred_at: Aware
    task_id: TaskId
    tenant: Tenant
    attempt: Annotated[int, Meta(ge=0, le=MAX_ATTEMPT)]
    traceparent: TraceParent = ""
    arm_id: ArmId | None = None
    goal: str = ""
    reason: str | None = None
    error: Raw | UnsetType = UNSET
    result: _Result | None = None


class _Endings(Struct, gc=False):
    events: Annotated[list[Ending], Meta(min_length=1, max_length=64)]


class _Problem(Struct, gc=False):
    code: str = "INTERNAL"
    title: str = ""
    detail: str = ""


class _Action(Struct, omit_defaults=True, gc=False):
    attempt: int
    arm_id: str
    instance_id: str | None = None


class _Outcome(Struct, gc=False):
    """`output` is left out when large or unsound; its digest and size stand for it."""

    ended: str
    status: str | UnsetType = UNSET
    output: Raw | UnsetType = UNSET
    output_sha256: str | UnsetType = UNSET
    output_bytes: int | UnsetType = UNSET
    result_left_out: bool | UnsetType = UNSET
    error: Raw | _Problem | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    execution_time_ms: int | UnsetType = UNSET
    confidence: float | UnsetType = UNSET
    tokens_used: int | UnsetType = UNSET
    cost_dollars: float | UnsetType = UNSET
    llm_calls: int | UnsetType = UNSET


class _Body(Struct, gc=False):
    episode_id: str
    tenant: str
    arm_id: str | None
    task_id: str
    observations: list[dict[str, str]]
    actions: list[_Action]
    outcomes: list[_Outcome]
    ttl_seconds: int
    created_at: str
    closed: bool = True


_decode_message = msgspec.json.Decoder(hot.TasksEnded).decode
_decode_all = msgspec.json.Decoder(_Endings).decode
_decode_one = msgspec.json.Decoder(Ending).decode
_decode_problem = msgspec.json.Decoder(_Problem).decode
_encode = msgspec.json.Encoder().encode


def read_ending(data: bytes) -> Ending:
    """Read a terminal event.

    Raises:
        NotAnEnding: it is none.
    """
    try:
        return _decode_one(data)
    except (ValueError, RecursionError) as error:
        raise NotAnEnding(f"not a terminal event: {error}") from error


def read_endings(data: bytes) -> tuple[list[Ending], str]:
    """Read a message of terminal events; also says what is wrong with those left out.

    Raises:
        NotAnEnding: it is no such message.
    """
    try:
        return _decode_all(data).events, ""
    except (ValueError, RecursionError):
        return _read_singly(data)


def _read_singly(data: bytes) -> tuple[list[Ending], str]:
    """Find out which ones spoil the message; this is rare, so it may be slow."""
    try:
        bodies = _decode_message(data).events
    except (ValueError, RecursionError) as error:
        raise NotAnEnding(f"not a message of terminal events: {error}") from error
    endings: list[Ending] = []
    why = ""
    for body in bodies:
        try:
            endings.append(read_ending(bytes(body)))
        except NotAnEnding as error:
            why = str(error)
    return endings, why


def episode_of(event: Ending, *, ttl_s: int = DEFAULT_TTL_S) -> Episode:
    """Make the one episode of a task: the same event gives the same bytes."""
    at = event.occurred_at
    created_at = _text(at) if at.tzinfo is UTC else at.isoformat()
    episode_id = with_prefix("epi", event.task_id)
    body = _Body(
        episode_id=episode_id,
        tenant=event.tenant,
        arm_id=event.arm_id,
        task_id=event.task_id,
        observations=[{"goal": event.goal}],
        actions=_actions(event),
        outcomes=[_outcome(event)],
        ttl_seconds=ttl_s,
        created_at=created_at,
    )
    text = _encode(body).decode()
    return Episode(event.tenant, episode_id, event.arm_id, created_at, text)


@lru_cache(256)
def _text(at: datetime) -> str:
    # The endings of one commit share their time. For UTC only: equal times of other zones have
    # other texts.
    return at.isoformat()


def _actions(event: Ending) -> list[_Action]:
    if event.arm_id is None or not event.attempt:
        return []
    result = event.result
    return [_Action(event.attempt, event.arm_id, result.instance_id if result else None)]


def _outcome(event: Ending) -> _Outcome:
    result = event.result
    outcome = _Outcome(ended=event.type.removeprefix("task."))
    if event.reason:
        outcome.reason = event.reason
    error = event.error
    if result is not None:
        _take_over(result, outcome)
        error = error if error is not UNSET else result.error
    elif event.type == "task.completed":
        outcome.result_left_out = True
    if error is not UNSET and bytes(error) != b"null":
        outcome.error = error if _may_stay(error) else _shortened(error)
    return outcome


def _take_over(result: _Result, outcome: _Outcome) -> None:
    outcome.status = result.status
    if _may_stay(result.output):
        outcome.output = result.output
    else:
        outcome.output_sha256 = hashlib.sha256(result.output).hexdigest()
        outcome.output_bytes = len(memoryview(result.output))
    outcome.execution_time_ms = result.execution_time_ms
    outcome.confidence = result.confidence
    outcome.tokens_used = result.tokens_used
    outcome.cost_dollars = result.cost_dollars
    outcome.llm_calls = result.llm_calls


def is_sound(raw: Raw) -> bool:
    """Tell whether a value can be read again within an episode.

    JSON that is too deep for the models, or no UTF-8 (which is not checked in what is only
    passed on), would make the whole episode unreadable.
    """
    data: Any = memoryview(raw)
    try:
        # The brackets stand for the episode around the value.
        from_json(b"[[[[%b]]]]" % data, allow_inf_nan=False)
    except ValueError:
        return False
    return True


def _may_stay(raw: Raw) -> bool:
    return len(memoryview(raw)) <= MAX_OUTPUT_BYTES and is_sound(raw)


def _shortened(error: Raw) -> _Problem:
    try:
        problem = _decode_problem(error)
    except (ValueError, RecursionError):
        return _Problem()
    problem.detail = problem.detail[:MAX_DETAIL_CHARS]
    problem.title = problem.title[:MAX_DETAIL_CHARS]
    return problem
