"""Choose how long a failed attempt's task waits for its next one."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from octarm.ledger.domain.news import AttemptNews
from octarm.models.contracts import RetryPolicy
from octarm.orchestrator.domain.retries import DEFAULT, NO_MORE, delay_s

Policies = Callable[[Collection[str]], Awaitable[Mapping[str, RetryPolicy]]]
"""Gives the retry policies of these tasks, or arms; those without one are left out."""


async def _none(_: Collection[str]) -> Mapping[str, RetryPolicy]:
    return {}


@dataclass(frozen=True, slots=True)
class ChooseDelays:
    """Asks, for failures that another attempt may mend: the task, its arm, then the default.

    A batch without such a failure costs nothing.
    """

    of_tasks: Policies = field(default=_none)
    of_arms: Policies = field(default=_none)

    async def __call__(
        self, news: Sequence[AttemptNews], chance: Callable[[], float]
    ) -> list[float]:
        """Give the seconds for each piece of news; NO_MORE where there is no next attempt."""
        failed = [n for n in news if n.result is not None and n.result.retryable]
        if not failed:
            return [0.0] * len(news)
        own = await self.of_tasks({item.task_id for item in failed})
        arms = await self.of_arms({item.arm_id for item in failed if item.task_id not in own})
        return [
            delay_s(
                item.attempt,
                chance=chance(),
                policy=own.get(item.task_id) or arms.get(item.arm_id) or DEFAULT,
                error=bytes(item.result.error),
            )
            if item.result is not None and item.result.retryable
            else NO_MORE
            for item in news
        ]
