"""Submissions on their way: encoded once, cut into requests, answered one by one."""

import itertools
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from pydantic import BaseModel

from octarm.models.contracts import TaskSubmission
from octarm.models.errors import FieldError, InvalidRequest, OctarmError, Problem, from_problem
from octarm.models.states import TaskState

MAX_IN_REQUEST: Final = 500
MAX_REQUEST_BYTES: Final = 512 * 1024
Submission = TaskSubmission | Mapping[str, Any]


class Encoded(msgspec.Struct, frozen=True, gc=False):
    """One submission as JSON, and its place in the caller's list."""

    index: int
    body: bytes


class SubmissionsRefused(InvalidRequest):
    """Some submissions were refused; the others were accepted and run.

    `refused` gives the error of each, by its place in the list; `accepted` the tasks of the
    others, by theirs.
    """

    def __init__(self, refused: dict[int, OctarmError], accepted: dict[int, Any]) -> None:
        index, first = next(iter(refused.items()))
        super().__init__(
            f"{len(refused)} submissions were refused; number {index}: {first.message}",
            first.recovery_hint,
            first.code,
            errors=[
                FieldError(field=f"submissions.{at}", message=error.message[:300])
                for at, error in list(refused.items())[:100]
            ],
        )
        self.refused = refused
        self.accepted = accepted


class Keys:
    """Idempotency keys for submissions that have none: unique to this client and call."""

    def __init__(self) -> None:
        self._prefix = f"sdk-{secrets.token_hex(12)}"
        self._numbers = itertools.count()

    def next(self) -> str:
        """Give a key that was never used."""
        return f"{self._prefix}-{next(self._numbers)}"


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_unset=True)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


_encode = msgspec.json.Encoder(enc_hook=_plain).encode


def encode(index: int, submission: Submission, keys: Keys) -> Encoded:
    """Write a submission, with an idempotency key so that a lost answer can be asked for again.

    What it says is checked where it is accepted, not here.

    Raises:
        InvalidRequest: it is not JSON.
    """
    fields = dict(submission) if type(submission) is dict else _plain(submission)
    if fields.get("idempotency_key") is None:
        fields["idempotency_key"] = keys.next()
    try:
        return Encoded(index, _encode({"submission": fields}))
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidRequest(f"submission {index} is not JSON: {error}") from error


def requests(
    submissions: Sequence[Encoded],
    max_items: int = MAX_IN_REQUEST,
    max_bytes: int = MAX_REQUEST_BYTES,
) -> Iterator[list[Encoded]]:
    """Cut submissions, in order, into requests; one that is too large goes alone."""
    group: list[Encoded] = []
    size = 0
    for submission in submissions:
        if group and (len(group) == max_items or size + len(submission.body) > max_bytes):
            yield group
            group, size = [], 0
        group.append(submission)
        size += len(submission.body) + 1
    if group:
        yield group


def request_body(tenant: str, submissions: Sequence[Encoded]) -> bytes:
    """Write a `SubmitTasks` request."""
    listed = b",".join([submission.body for submission in submissions])
    return b'{"tenant":%s,"submissions":[%s]}' % (_encode(tenant), listed)


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """The ledger holds this task."""

    task_id: str
    state: TaskState


class _Answer(msgspec.Struct, gc=False):
    accepted: Accepted | None = None
    problem: dict[str, Any] | None = None


class _Answers(msgspec.Struct, gc=False):
    answers: list[_Answer]


class _Reply(msgspec.Struct):
    ok: _Answers | None = None
    problem: dict[str, Any] | None = None


_decode = msgspec.json.Decoder(_Reply).decode


def read_answers(data: bytes, expected: int) -> list[Accepted | OctarmError]:
    """Read the reply to a `SubmitTasks` request: what became of each submission, in order.

    Raises:
        OctarmError: the problem of the request as a whole, or the reply makes no sense.
    """
    try:
        reply = _decode(data)
    except msgspec.MsgspecError as error:
        raise OctarmError(f"the answer was not understood: {error}") from error
    if reply.problem is not None:
        raise from_problem(Problem.model_validate(reply.problem))
    answers = reply.ok.answers if reply.ok is not None else []
    if len(answers) != expected:
        raise OctarmError(f"{expected} submissions got {len(answers)} answers")
    return [answer.accepted or _error(answer.problem) for answer in answers]


def _error(problem: dict[str, Any] | None) -> OctarmError:
    if problem is None:
        return OctarmError("a submission got an empty answer")
    return from_problem(Problem.model_validate(problem))
