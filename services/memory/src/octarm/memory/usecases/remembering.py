"""Remember finished tasks: Postgres keeps them, and whoever reads one puts it in Redis."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from octarm.common.telemetry import metrics
from octarm.memory.domain.episode import Episode
from octarm.memory.usecases.ports import Episodes


@dataclass(frozen=True, slots=True)
class RememberTasks:
    """Keep the episodes of finished tasks; idempotent.

    Most are never read one by one: to put them all in Redis as well cost as much as to keep them.
    """

    kept: Episodes

    async def __call__(self, episodes: Sequence[Episode]) -> Mapping[str, str]:
        """Give episode id → reason for those that can never be kept.

        Raises:
            Unavailable: Postgres does not answer; nothing is lost if asked again.
        """
        refused = await self.kept.add(episodes)
        metrics.inc("octarm_memory_episodes_total", len(episodes) - len(refused))
        return refused
