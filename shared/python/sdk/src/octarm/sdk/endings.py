"""Terminal events as a client reads them: one look at a whole bundle, results later."""

from typing import Final

import msgspec
from msgspec import Raw, Struct

from octarm.models import hot
from octarm.models.errors import Problem, TaskFailed
from octarm.models.events import TERMINAL_VERBS
from octarm.models.results import ExecutionResult
from octarm.models.states import TaskState

_STATES: Final = {f"task.{verb}": TaskState(verb) for verb in TERMINAL_VERBS}


class Ending(Struct, frozen=True, gc=False):
    """What a client wants to know of a terminal event."""

    type: str
    task_id: str
    result: Raw = hot.NULL
    error: Raw = hot.NULL
    reason: str | None = None

    @property
    def state(self) -> TaskState | None:
        """The state in which the task ended; None when the event does not end it."""
        return _STATES.get(self.type)

    def alone(self) -> "Ending":
        """Let go of the message that it came in."""
        return Ending(self.type, self.task_id, self.result.copy(), self.error.copy(), self.reason)

    def read_result(self) -> ExecutionResult | None:
        """Read the result; None when it was too large for the event."""
        body = bytes(self.result)
        return None if body == b"null" else ExecutionResult.model_validate_json(body)

    def read_failure(self, state: TaskState) -> TaskFailed:
        """Say how the task ended without success."""
        body = bytes(self.error)
        problem = None if body == b"null" else Problem.model_validate_json(body)
        return failure(state, problem, self.reason or "")


class _Bundle(Struct, gc=False):
    events: list[Ending]


_decode = msgspec.json.Decoder(_Bundle).decode


def endings_in(data: bytes) -> list[Ending]:
    """Take a bundle of events apart, whatever they are.

    Raises:
        MsgspecError: it is not a bundle.
    """
    return _decode(data).events


def failure(state: TaskState, problem: Problem | None, reason: str = "") -> TaskFailed:
    """Say how a task ended without success; cancelled tasks have code CANCELLED."""
    if problem is not None:
        return TaskFailed(problem.detail or problem.title, problem.recovery_hint, problem.code)
    if state is TaskState.CANCELLED:
        return TaskFailed(reason or "the task was cancelled", "Submit it again.", "CANCELLED")
    return TaskFailed(f"the task ended as {state}")
