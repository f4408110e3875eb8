"""What the memory service answers to writes of episodes, read one by one."""

from typing import Final

import msgspec
from msgspec import Raw, Struct

from octarm.models.errors import OctarmError, Problem, from_problem


class Written(Struct, frozen=True):
    """What became of a write; `created` is false when it was there already.

    `waiting` says that nobody knows yet: it was taken here and is on its way.
    """

    created: bool = False
    durable: bool = False
    degraded: bool = False
    waiting: bool = False


WAITING: Final = Written(waiting=True)


NONE: Final = Raw()


class _Answer(Written, frozen=True):
    problem: Raw = NONE


class _Answers(Struct):
    answers: list[_Answer]


class _Reply(Struct):
    ok: _Answers | None = None
    problem: Raw = NONE


_decode = msgspec.json.Decoder(_Reply).decode


def read_answers(data: bytes, count: int) -> list[Written | OctarmError]:
    """Give what became of each of `count` writes; an answer that is none is an error of each."""
    try:
        reply = _decode(data)
    except (msgspec.MsgspecError, ValueError) as error:
        return [OctarmError(f"an answer that is none: {error}")] * count
    if reply.ok is None:
        return [_error(reply.problem)] * count
    if len(reply.ok.answers) != count:
        return [OctarmError("an answer about other writes")] * count
    return [one if one.problem is NONE else _error(one.problem) for one in reply.ok.answers]


def _error(problem: Raw) -> OctarmError:
    try:
        return from_problem(Problem.model_validate_json(bytes(problem)))
    except ValueError:
        return OctarmError("the memory service refused, and its reason is unreadable")
