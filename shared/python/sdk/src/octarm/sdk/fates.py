"""What becomes of tasks: told by terminal events, repaired by asking."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec

from octarm.models import hot
from octarm.models.errors import NotFound, OctarmError, Problem, TaskFailed
from octarm.models.queries import Outcome
from octarm.models.results import ExecutionResult
from octarm.models.states import TaskState

SWEEP_S: Final = 2.0
SWEEP_TASKS: Final = 1000
EARLY_EVENTS: Final = 10_000

# A library in somebody's program: silent unless that program wants to hear it.
log = logging.getLogger(__name__)
_decode = msgspec.json.Decoder(hot.TaskEvent).decode


class AsksStates(Protocol):
    """The part of the orchestrator's client that is needed."""

    async def states(self, tenant: str, task_ids: Sequence[str]) -> dict[str, Outcome]:
        """Give the outcome of each task that exists, by id."""
        ...


class Fate:
    """What is known of one task; it ends once."""

    __slots__ = ("_callbacks", "_event", "error", "result", "since", "state", "task_id")

    def __init__(self, task_id: str, state: TaskState) -> None:
        self.task_id = task_id
        self.state = state
        self.since = time.monotonic()
        self.result: ExecutionResult | None = None
        self.error: TaskFailed | NotFound | None = None
        self._event: bytes | None = None
        self._callbacks: list[Callable[[], None]] = []

    @property
    def ended(self) -> bool:
        """Whether the task has ended."""
        return self.error is not None or self.state.is_terminal

    def when_ended(self, callback: Callable[[], None]) -> None:
        """Call `callback` once the task has ended; at once if it has."""
        if self.ended:
            callback()
        else:
            self._callbacks.append(callback)

    def forget(self, callback: Callable[[], None]) -> None:
        """Do not call `callback` any more."""
        if callback in self._callbacks:
            self._callbacks.remove(callback)

    def end_by_event(self, verb: str, data: bytes) -> None:
        """End it by a terminal event, which is read when somebody asks."""
        self._event = data
        self._end(TaskState(verb))

    def end_by_outcome(self, outcome: Outcome) -> None:
        """Take over what the ledger says."""
        self.result = outcome.result
        if outcome.state in (TaskState.COMPLETED, *LIVE):
            self.error = None
        else:
            self.error = _failure(outcome.state, outcome.error)
        self._end(outcome.state)

    def end_unknown(self) -> None:
        """End it because the ledger does not know it."""
        self.error = NotFound(f"there is no task {self.task_id}")
        self._end(self.state)

    def _end(self, state: TaskState) -> None:
        self.state = state
        if self.ended:
            callbacks, self._callbacks = self._callbacks, []
            for callback in callbacks:
                callback()

    def read(self) -> bool:
        """Read the terminal event, if one came; tells whether result or error is known."""
        if self._event is not None:
            data, self._event = self._event, None
            event = _decode(data)
            if not isinstance(event.result, msgspec.UnsetType) and bytes(event.result) != b"null":
                self.result = ExecutionResult.model_validate_json(bytes(event.result))
            if self.state is not TaskState.COMPLETED:
                self.error = _failure(self.state, _problem(event), event.reason or "")
        return self.result is not None or self.error is not None

    def outcome(self) -> ExecutionResult | TaskFailed | NotFound | None:
        """Give the result or the error of a task that has ended, None when it must be asked for."""
        if not (self.ended and self.read()):
            return None
        return self.error or self.result


LIVE: Final = tuple(state for state in TaskState if not state.is_terminal)


def _problem(event: hot.TaskEvent) -> Problem | None:
    if isinstance(event.error, msgspec.UnsetType) or bytes(event.error) == b"null":
        return None
    return Problem.model_validate_json(bytes(event.error))


def _failure(state: TaskState, problem: Problem | None, reason: str = "") -> TaskFailed:
    """Say how a task ended without success; cancelled tasks have code CANCELLED."""
    if problem is not None:
        return TaskFailed(problem.detail or problem.title, problem.recovery_hint, problem.code)
    if state is TaskState.CANCELLED:
        return TaskFailed(reason or "the task was cancelled", "Submit it again.", "CANCELLED")
    return TaskFailed(f"the task ended as {state}")


class Fates:
    """Follows tasks of one tenant to their end.

    `heard` takes terminal events; what core NATS lost, `sweep` asks for: while endings come in,
    at most 1,000 of the oldest each time, else all that are waited for.
    """

    def __init__(self, ledger: AsksStates, tenant: str) -> None:
        self._ledger = ledger
        self._tenant = tenant
        self._waiting: dict[str, Fate] = {}
        self._submitting = 0
        self._early: dict[str, tuple[str, bytes]] = {}
        self._heard = 0

    def follow(self, task_id: str, state: TaskState) -> Fate:
        """Give the fate of a task; the same one for the same unfinished task."""
        known = self._waiting.get(task_id)
        if known is not None:
            return known
        fate = Fate(task_id, state)
        early = self._early.pop(task_id, None)
        if early is not None:
            fate.end_by_event(*early)
        elif not fate.ended:
            self._waiting[task_id] = fate
        return fate

    def submission_begins(self) -> None:
        """Keep endings of unknown tasks: one may be of a task whose answer is on its way."""
        self._submitting += 1

    def submission_ends(self) -> None:
        """Forget them when no answer is on its way."""
        self._submitting -= 1
        if not self._submitting:
            self._early.clear()

    def heard(self, verb: str, task_id: str, data: bytes) -> None:
        """Take a terminal event."""
        self._heard += 1
        fate = self._waiting.pop(task_id, None)
        if fate is not None:
            fate.end_by_event(verb, data)
        elif self._submitting and len(self._early) < EARLY_EVENTS:
            self._early[task_id] = (verb, data)

    async def ask(self, fates: Sequence[Fate]) -> None:
        """Ask the ledger about these tasks now.

        Raises:
            OctarmError: it does not answer.
        """
        outcomes = await self._ledger.states(self._tenant, [fate.task_id for fate in fates])
        for fate in fates:
            outcome = outcomes.get(fate.task_id)
            if outcome is None:
                fate.end_unknown()
            elif not fate.ended or outcome.state.is_terminal:
                fate.end_by_outcome(outcome)
            if fate.ended:
                self._waiting.pop(fate.task_id, None)

    def learn(self, outcome: Outcome) -> None:
        """Take over what the ledger said of a task by the way."""
        if outcome.state.is_terminal and (fate := self._waiting.pop(outcome.task_id, None)):
            fate.end_by_outcome(outcome)

    async def run(self, every_s: float = SWEEP_S) -> None:
        """Sweep until cancelled."""
        heard = 0
        while True:
            await asyncio.sleep(every_s)
            silent, heard = self._heard == heard, self._heard
            try:
                await self._sweep(every_s, all_of_them=silent)
            except OctarmError as error:
                log.debug("sweep failed: %s", error.message)

    async def _sweep(self, older_than_s: float, *, all_of_them: bool) -> None:
        before = time.monotonic() - older_than_s
        due = [fate for fate in self._waiting.values() if fate.since <= before]
        if not all_of_them:
            due = due[:SWEEP_TASKS]
        for start in range(0, len(due), SWEEP_TASKS):
            some = due[start : start + SWEEP_TASKS]
            await self.ask(some)
            for fate in some:
                # Asked last, asked next time last.
                if self._waiting.pop(fate.task_id, None) is not None:
                    self._waiting[fate.task_id] = fate
