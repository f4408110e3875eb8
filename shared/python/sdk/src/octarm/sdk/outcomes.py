"""From what a handler did to the bytes of its ExecutionResult; pure."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from octarm.models import hot
from octarm.models.contracts import MAX_CONTEXT_BYTES, TaskContract
from octarm.models.errors import (
    BudgetExceeded,
    OctarmError,
    PayloadTooLarge,
    Problem,
    TaskFailed,
    TimedOut,
    Unavailable,
)
from octarm.models.results import MAX_RESULT_BYTES, ExecutionResult
from octarm.sdk.spending import Spent

MAX_OUTPUT_BYTES: Final = MAX_CONTEXT_BYTES
_NOTHING: Final = hot.NULL


class Success(msgspec.Struct, frozen=True, gc=False):
    """The handler returned; `output` is JSON."""

    output: bytes


@dataclass(frozen=True, slots=True)
class Failure:
    """The attempt failed; `retryable` says whether another one may help."""

    problem: Problem
    retryable: bool


@dataclass(frozen=True, slots=True)
class Given:
    """The handler made the ExecutionResult itself."""

    result: ExecutionResult


Ending = Success | Failure | Given


class Circumstances(msgspec.Struct, frozen=True, gc=False):
    """Who ran what, when, and what it used."""

    task_id: str
    attempt: int
    arm_id: str
    instance_id: str
    goal: str
    started_at: datetime
    ended_at: datetime
    execution_time_ms: int
    spent: Spent


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(f"{type(value).__name__} is not JSON")


_encode = msgspec.json.Encoder(enc_hook=_plain).encode


# What holds only these was written by the encoder itself, and is neither deep nor strange.
_SIMPLE: Final = frozenset({str, bool, int, float, type(None)})


def returned(value: Any) -> Ending:
    """Say how a handler that returned `value` ended."""
    # Asking whether something is a model costs more than writing a small dictionary.
    if type(value) is not dict and isinstance(value, ExecutionResult):
        return Given(value)
    try:
        output = _encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        return Failure(_internal(f"the handler returned what is not JSON: {error}"), False)
    if len(output) > MAX_OUTPUT_BYTES:
        return too_large(len(output))
    if type(value) is dict and _SIMPLE.issuperset(map(type, value.values())):
        return Success(output)
    try:
        # The brackets stand for the result and the answer around it.
        from_json(b"[[%b]]" % output)
    except ValueError as error:
        return Failure(_internal(f"nobody could read what the handler returned: {error}"), False)
    return Success(output)


def error_of(ending: Ending) -> str:
    """Give the code of a failure, "" of anything else; being called off is none."""
    if isinstance(ending, Failure):
        return "" if ending.problem.code == "CANCELLED" else ending.problem.code
    if isinstance(ending, Given) and ending.result.error is not None:
        return ending.result.error.code
    return ""


def too_large(size: int) -> Failure:
    """Say that an output of `size` bytes cannot be kept."""
    error = PayloadTooLarge(
        f"the output has {size} bytes as JSON, {MAX_OUTPUT_BYTES} are allowed",
        "Return less, or store it elsewhere and return where it lies.",
    )
    return Failure(error.problem(), False)


def raised(error: BaseException) -> Failure:
    """Say how a handler that raised ended: its own code when it named one, else INTERNAL."""
    if isinstance(error, OctarmError):
        try:
            return Failure(error.problem(), error.retryable)
        except ValidationError:
            # A handler's own code or retry-after that no problem can have.
            return Failure(_internal(f"{error.code}: {error}"), error.retryable)
    return Failure(_internal(f"{type(error).__name__}: {error}"), True)


def refused(error: OctarmError, *, retryable: bool | None = None) -> Failure:
    """Say that the arm ended the attempt, whatever the handler did."""
    answer = error.retryable if retryable is None else retryable
    return Failure(error.problem().model_copy(update={"retryable": answer}), answer)


def out_of_time(task: TaskContract | None, allowed_s: float) -> Failure:
    """Say that the attempt took all of its timeout, or all the time of its budget."""
    timeout_s = task.timeout_seconds if task is not None else 0
    if allowed_s >= timeout_s:
        return timed_out(timeout_s)
    return refused(BudgetExceeded(f"the attempt took more than the {allowed_s:g} s left for it"))


def timed_out(seconds: int) -> Failure:
    """Say that the attempt took too long."""
    error = TimedOut(
        f"the attempt took more than {seconds} s",
        "Allow more by timeout_seconds, or ask for less.",
        "EXECUTION_TIMEOUT",
    )
    return refused(error)


def handed_back() -> Failure:
    """The arm was stopped before the attempt had ended: another may try."""
    error = Unavailable("handed back: the arm was stopped", code="ARM_UNAVAILABLE")
    return refused(error, retryable=True)


def called_off(reason: str) -> Failure:
    """Say that somebody cancelled the attempt."""
    error = TaskFailed(reason or "the task was cancelled", "Submit it again.", "CANCELLED")
    return refused(error, retryable=False)


def _internal(detail: str) -> Problem:
    # Names of files may hold what no UTF-8 can.
    readable = detail.encode("utf-8", "replace").decode()
    return OctarmError(readable, "Read the arm's log: it has the traceback.").problem()


def encode(ending: Ending, around: Circumstances) -> bytes:
    """Write the ExecutionResult; ids are always those of the attempt."""
    if isinstance(ending, Given):
        return _encode_given(ending.result, around)
    output, error, retryable = _NOTHING, _NOTHING, False
    if isinstance(ending, Success):
        output = msgspec.Raw(ending.output)
    else:
        error = msgspec.Raw(ending.problem.model_dump_json(exclude_defaults=True).encode())
        retryable = ending.retryable
    spent = around.spent
    return _encode(
        hot.Result(
            task_id=around.task_id,
            attempt=around.attempt,
            arm_id=around.arm_id,
            instance_id=around.instance_id,
            status="success" if isinstance(ending, Success) else "failure",
            execution_time_ms=around.execution_time_ms,
            provenance=hot.Provenance(
                arm_id=around.arm_id,
                timestamp=around.ended_at,
                command_hash=hashlib.sha256(around.goal.encode()).hexdigest(),
            ),
            output=output,
            started_at=around.started_at,
            tokens_used=spent.tokens,
            cost_dollars=spent.cost_dollars,
            llm_calls=spent.llm_calls,
            error=error,
            retryable=retryable,
        )
    )


def _encode_given(result: ExecutionResult, around: Circumstances) -> bytes:
    spent = around.spent
    whole = result.model_copy(
        update={
            "task_id": around.task_id,
            "attempt": around.attempt,
            "arm_id": around.arm_id,
            "instance_id": around.instance_id,
            "started_at": result.started_at or around.started_at,
            # What was booked on the context is never lost, what the result says beyond it counts.
            "tokens_used": max(result.tokens_used, spent.tokens),
            "cost_dollars": max(result.cost_dollars, spent.cost_dollars),
            "llm_calls": max(result.llm_calls, spent.llm_calls),
        }
    )
    try:
        size, body = len(_encode(whole.output)), whole.model_dump_json().encode()
    except ValueError as error:
        return encode(Failure(_internal(f"the result is not JSON: {error}"), False), around)
    if size > MAX_OUTPUT_BYTES or len(body) > MAX_RESULT_BYTES:
        return encode(too_large(max(size, len(body))), around)
    return body
