"""Keep for good what comes through the stream; forget, and let nothing come back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from octarm.common.telemetry import metrics
from octarm.memory.usecases.loading import LoadEpisode
from octarm.memory.usecases.ports import Entries, Front, FrontDown
from octarm.memory.usecases.writing import OpenEpisodes
from octarm.models.episodes import EpisodeForgotten, ForgetEpisode
from octarm.models.hot_episodes import KeptWrite


@dataclass(frozen=True, slots=True)
class KeepWrites:
    """Write a batch to Postgres; idempotent."""

    kept: Entries

    async def __call__(self, writes: Sequence[KeptWrite]) -> Mapping[int, str]:
        """Give place → reason for those that can never be kept.

        Raises:
            Unavailable: Postgres does not answer; nothing is lost if asked again.
        """
        refused = await self.kept.keep(writes)
        metrics.inc("octarm_memory_entries_total", len(writes) - len(refused))
        return refused


@dataclass(frozen=True, slots=True)
class ForgetOne:
    """Delete an episode everywhere; doing it twice is doing it once.

    First it is written down that it is gone: from then on no write of it is kept. What was on its
    way is waited for, then all is deleted. What even then comes late is deleted by the sweep.
    """

    kept: Entries
    front: Front
    load: LoadEpisode
    open: OpenEpisodes

    async def __call__(self, query: ForgetEpisode) -> EpisodeForgotten:
        """
        Raises:
            Unavailable: Postgres does not answer.
        """
        key = query.tenant, query.episode_id
        await self.kept.bury(*key)
        self.open.discard(key)
        degraded = False
        try:
            await self.front.bury(*key)
        except FrontDown:
            degraded = True
        await self.load.drained()
        changed = await self.kept.delete(*key)
        return EpisodeForgotten(changed=changed, degraded=degraded)
