"""Remember finished tasks: Postgres keeps them, Redis is in front."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from octarm.common.telemetry import metrics
from octarm.memory.domain.episode import Episode
from octarm.memory.usecases.ports import Episodes, Front, FrontDown


@dataclass(frozen=True, slots=True)
class RememberTasks:
    """Keep the episodes of finished tasks; idempotent."""

    kept: Episodes
    front: Front

    async def __call__(
        self, episodes: Sequence[Episode], *, again: bool = False
    ) -> Mapping[str, str]:
        """Give episode id → reason for those that can never be kept.

        Without Redis it goes on. What comes `again` may have been forgotten since.

        Raises:
            Unavailable: Postgres does not answer; nothing is lost if asked again.
        """
        refused = await self.kept.add(episodes)
        good = [one for one in episodes if one.episode_id not in refused] if refused else episodes
        metrics.inc("octarm_memory_episodes_total", len(good), tier="postgres")
        if again:
            there = await self.kept.there([(one.tenant, one.episode_id) for one in good])
            good = [one for one in good if (one.tenant, one.episode_id) in there]
        try:
            await self.front.put(good)
        except FrontDown:
            return refused
        metrics.inc("octarm_memory_episodes_total", len(good), tier="redis")
        return refused
