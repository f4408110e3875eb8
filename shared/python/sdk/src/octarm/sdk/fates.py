"""What becomes of tasks: told by terminal events, repaired by asking."""

import asyncio
import logging
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from octarm.models.errors import NotFound, OctarmError, TaskFailed
from octarm.models.queries import Outcome
from octarm.models.results import ExecutionResult
from octarm.models.states import TaskState
from octarm.sdk.endings import Ending, failure

SWEEP_S: Final = 2.0
SWEEP_TASKS: Final = 1000
SWEEP_ALL: Final = sys.maxsize
# While endings come in, what is still waited for is most likely under way.
PATIENCE: Final = 5
EARLY_EVENTS: Final = 10_000

# A library in somebody's program: silent unless that program wants to hear it.
log = logging.getLogger(__name__)


class AsksStates(Protocol):
    """The part of the orchestrator's client that is needed."""

    async def states(self, tenant: str, task_ids: Sequence[str]) -> dict[str, Outcome]:
        """Give the outcome of each task that exists, by id."""
        ...


Tell = Callable[["Fate"], None]


class Fate:
    """What is known of one task; it ends once.

    Of an event only its bytes are kept: the result is made when somebody asks, anew each time.
    A program waits for many tasks, and what lives long makes every garbage collection longer.
    """

    __slots__ = ("_ending", "_result", "_tells", "ended", "error", "since", "state", "task_id")

    def __init__(self, task_id: str, state: TaskState) -> None:
        self.task_id = task_id
        self.state = state
        self.since = time.monotonic()
        self.ended = state.is_terminal
        """Whether the task has ended."""
        self.error: TaskFailed | NotFound | None = None
        self._result: ExecutionResult | None = None
        self._ending: Ending | None = None
        self._tells: list[Tell] | Tell | None = None

    def when_ended(self, tell: Tell) -> None:
        """Call `tell` with this fate once the task has ended; at once if it has."""
        if self.ended:
            tell(self)
        elif self._tells is None:
            self._tells = tell
        else:
            self._tells = [*self._told(), tell]

    def forget(self, tell: Tell) -> None:
        """Do not call `tell` any more."""
        if self._tells is not None:
            self._tells = [one for one in self._told() if one != tell] or None

    def _told(self) -> "list[Tell]":
        tells = self._tells
        if tells is None:
            return []
        return tells if isinstance(tells, list) else [tells]

    def end_by_event(self, ending: Ending, state: TaskState) -> None:
        """End it by a terminal event, which is read when somebody asks."""
        self._ending = ending.alone()
        self._end(state)

    def end_by_outcome(self, outcome: Outcome) -> None:
        """Take over what the ledger says."""
        self._ending = None
        self._result = outcome.result
        if outcome.state in (TaskState.COMPLETED, *LIVE):
            self.error = None
        else:
            self.error = failure(outcome.state, outcome.error)
        self._end(outcome.state)

    def end_unknown(self) -> None:
        """End it because the ledger does not know it."""
        self.error = NotFound(f"there is no task {self.task_id}")
        self._end(self.state)

    def _end(self, state: TaskState) -> None:
        self.state = state
        self.ended = self.error is not None or state.is_terminal
        if self.ended and self._tells is not None:
            tells, self._tells = self._told(), None
            for tell in tells:
                tell(self)

    def outcome(self) -> ExecutionResult | TaskFailed | NotFound | None:
        """Give the result or the error of a task that has ended, None when it must be asked for."""
        if self.error is None and self._ending is not None:
            if self.state is TaskState.COMPLETED:
                return self._ending.read_result()
            self.error = self._ending.read_failure(self.state)
        return self.error or self._result if self.ended else None


LIVE: Final = tuple(state for state in TaskState if not state.is_terminal)


class Finishing:
    """Gathers fates as they end, for one who waits for the next."""

    def __init__(self) -> None:
        self._ended: deque[Fate] = deque()
        self._waiting: asyncio.Future[None] | None = None

    def tell(self, fate: Fate) -> None:
        """Take one that has ended."""
        self._ended.append(fate)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def next(self, until: float | None) -> Fate:
        """Give the one that ended next; `until` is a time of the event loop.

        Raises:
            TimeoutError: none ended until then.
        """
        if not self._ended:
            self._waiting = asyncio.get_running_loop().create_future()
            # Not around a caller's loop: a generator may be resumed by another task.
            async with asyncio.timeout_at(until):
                await self._waiting
        return self._ended.popleft()


class Fates:
    """Follows tasks of one tenant to their end.

    `heard` takes terminal events; what core NATS lost, `sweep` asks for: all that are waited for
    when nothing comes in or the connection was lost, else 1,000 of the oldest after a longer time.
    """

    def __init__(self, ledger: AsksStates, tenant: str) -> None:
        self._ledger = ledger
        self._tenant = tenant
        self._waiting: dict[str, Fate] = {}
        self._submitting = 0
        self._early: dict[str, tuple[Ending, TaskState]] = {}
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

    def heard(self, ending: Ending, state: TaskState) -> None:
        """Take a terminal event."""
        self._heard += 1
        fate = self._waiting.pop(ending.task_id, None)
        if fate is not None:
            fate.end_by_event(ending, state)
        elif self._submitting and len(self._early) < EARLY_EVENTS:
            self._early[ending.task_id] = (ending.alone(), state)

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

    async def run(
        self, every_s: float = SWEEP_S, interruptions: Callable[[], int] = lambda: 0
    ) -> None:
        """Sweep until cancelled; `interruptions` counts how often the connection was lost."""
        heard, lost, doubtful = 0, interruptions(), 0
        while True:
            await asyncio.sleep(every_s)
            silent, heard = self._heard == heard, self._heard
            # Twice: what was submitted shortly before is too young for the first time.
            doubtful = 2 if interruptions() != lost else max(0, doubtful - 1)
            lost = interruptions()
            try:
                if silent or doubtful:
                    await self._sweep(every_s, SWEEP_ALL)
                else:
                    await self._sweep(PATIENCE * every_s, SWEEP_TASKS)
            except OctarmError as error:
                log.debug("sweep failed: %s", error.message)

    async def _sweep(self, older_than_s: float, most: int) -> None:
        before = time.monotonic() - older_than_s
        due = [fate for fate in self._waiting.values() if fate.since <= before][:most]
        for start in range(0, len(due), SWEEP_TASKS):
            some = due[start : start + SWEEP_TASKS]
            await self.ask(some)
            for fate in some:
                # Asked last, asked next time last.
                if self._waiting.pop(fate.task_id, None) is not None:
                    self._waiting[fate.task_id] = fate
