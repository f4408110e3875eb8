"""The lifecycle of a task: which state may follow which. SQL and Python use this one table."""

from typing import Final

from octarm.models.states import TERMINAL, TaskState

S = TaskState
_ENDS: Final = frozenset({S.CANCELLED, S.TIMED_OUT})
_TRIED: Final = frozenset({S.COMPLETED, S.FAILED, S.QUEUED, S.WAITING}) | _ENDS

MOVES: Final[dict[TaskState, frozenset[TaskState]]] = {
    S.WAITING: frozenset({S.QUEUED, S.FAILED, S.REJECTED}) | _ENDS,
    S.QUEUED: frozenset({S.DISPATCHED, S.RUNNING, S.REJECTED}) | _TRIED,
    S.DISPATCHED: frozenset({S.RUNNING, S.VALIDATING}) | _TRIED,
    S.RUNNING: frozenset({S.VALIDATING}) | _TRIED,
    S.VALIDATING: _TRIED,
    **{state: frozenset() for state in TERMINAL},
}


def may_move(old: TaskState, new: TaskState) -> bool:
    """Tell whether a task may go from `old` to `new`."""
    return new in MOVES[old]


def sources(new: TaskState) -> list[str]:
    """List the states from which a task may go to `new`, for a statement's condition."""
    return sorted(old.value for old, news in MOVES.items() if new in news)


OPEN: Final = sorted(state.value for state in TaskState if state not in TERMINAL)
ATTEMPTED: Final = sources(S.COMPLETED)
_SKIPPED: Final = {S.QUEUED: ["placed", "started"], S.DISPATCHED: ["started"]}


def events_to(old: TaskState, new: TaskState, *, reported: bool) -> list[str]:
    """Name the events that tell the way from `old` to `new`, in order.

    A result or start that an arm reports may overtake the news of what came before; the
    history still has it all. What nobody reported is not told.
    """
    before = _SKIPPED.get(old, []) if reported else []
    if new is S.DISPATCHED:
        return ["placed"]
    if new is S.RUNNING:
        return [*before[:-1], "started"]
    if new in (S.QUEUED, S.WAITING):
        return ["ready"] if old is S.WAITING else [*before, "retried"]
    return [*before, new.value]
