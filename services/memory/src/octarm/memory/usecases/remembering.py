"""Remember finished tasks: Postgres keeps them, Redis is in front."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from octarm.common.telemetry import metrics
from octarm.memory.domain.episode import Episode
from octarm.memory.usecases.front import put_in_front
from octarm.memory.usecases.ports import Episodes, Front


@dataclass(frozen=True, slots=True)
class RememberTasks:
    """Keep the episodes of finished tasks; idempotent."""

    kept: Episodes
    front: Front

    async def __call__(self, episodes: Sequence[Episode]) -> Mapping[str, str]:
        """Give episode id → reason for those that can never be kept.

        Without Redis it goes on.

        Raises:
            Unavailable: Postgres does not answer; nothing is lost if asked again.
        """
        refused = await self.kept.add(episodes)
        good = [one for one in episodes if one.episode_id not in refused] if refused else episodes
        metrics.inc("octarm_memory_episodes_total", len(good), tier="postgres")
        if await put_in_front(self.front, good):
            metrics.inc("octarm_memory_episodes_total", len(good), tier="redis")
        return refused
