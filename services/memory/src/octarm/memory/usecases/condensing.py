"""Have a model condense what was looked through: a task with a budget, for each episode once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from octarm.common import telemetry
from octarm.common.telemetry import metrics
from octarm.models.commands import SubmitTask
from octarm.models.contracts import ResourceBudget, TaskSubmission
from octarm.models.episodes import EpisodicMemory
from octarm.models.errors import TimedOut, Unavailable, from_problem
from octarm.models.queries import SubmitAnswer

CAPABILITY: Final = "condense"
GOAL: Final = "What is worth knowing of this episode?"
MAX_CALLS: Final = 3
HOUR_S: Final = 3600.0

log = telemetry.get_logger()


class Tasks(Protocol):
    """Where tasks are handed in."""

    async def submit_many(self, tenant: str, tasks: Sequence[SubmitTask]) -> list[SubmitAnswer]:
        """Submit tasks; one answer each. Idempotent for those with an idempotency key."""
        ...


@dataclass(slots=True)
class AskForCondensing:
    """Hands in a task that needs `condense` for an episode, `per_hour` of them in an hour.

    Each may use `max_tokens` tokens and three calls; it is the tenant's task, and counts against
    its quotas and budgets. `seconds` is a monotonic clock.
    """

    tasks: Tasks
    max_tokens: int
    per_hour: int
    seconds: Callable[[], float]
    _hour_began: float = field(default=0.0, init=False)
    _this_hour: int = field(default=0, init=False)

    async def __call__(self, episode: EpisodicMemory) -> None:
        """Hand it in; again is harmless. What is refused or too much is counted and left.

        Raises:
            Unavailable: nobody takes tasks now.
            TimedOut: no answer in time; it may have been taken.
        """
        if not self._may():
            metrics.inc("octarm_memory_consolidated_total", rule="not_condensed")
            return
        (answer,) = await self.tasks.submit_many(episode.tenant, [self._task(episode)])
        if answer.problem is None:
            self._this_hour += 1
            metrics.inc("octarm_memory_consolidated_total", rule="condense_asked")
            return
        error = from_problem(answer.problem)
        if isinstance(error, Unavailable | TimedOut):
            raise error
        metrics.inc("octarm_memory_consolidated_total", rule="not_condensed")
        log.warning("episode_not_condensed", episode_id=episode.episode_id, error=error.message)

    def _may(self) -> bool:
        now = self.seconds()
        if now - self._hour_began >= HOUR_S:
            self._hour_began, self._this_hour = now, 0
        return self._this_hour < self.per_hour

    def _task(self, episode: EpisodicMemory) -> SubmitTask:
        return SubmitTask(
            submission=TaskSubmission(
                goal=GOAL,
                required_capabilities=frozenset({CAPABILITY}),
                context={"episode_id": episode.episode_id},
                budget=ResourceBudget(max_tokens=self.max_tokens, max_llm_calls=MAX_CALLS),
                tier="batch",
                idempotency_key=f"memory.condense:{episode.episode_id}",
            )
        )
