"""What an arm may read of its own earlier work."""

from dataclasses import dataclass

from octarm.clients.memory import MemoryClient
from octarm.models.episodes import EpisodeFound, EpisodicMemory, FindEpisodes


@dataclass(frozen=True, slots=True)
class Recall:
    """A small read client on the memory service, for one arm and one tenant.

    Every method raises `Unavailable` when the memory service does not answer.
    """

    client: MemoryClient
    tenant: str
    arm_id: str

    async def recent(self, k: int = 10) -> list[EpisodicMemory]:
        """Give this arm's last `k` (1 – 500) episodes with the tenant, newest first."""
        query = FindEpisodes(tenant=self.tenant, arm_id=self.arm_id, limit=k)
        return (await self.client.find_episodes(query)).episodes

    async def of_task(self, task_id: str) -> list[EpisodicMemory]:
        """Give the episodes of one task, of whichever arm."""
        query = FindEpisodes(tenant=self.tenant, task_id=task_id)
        return (await self.client.find_episodes(query)).episodes

    async def episode(self, episode_id: str) -> EpisodeFound:
        """Show one episode.

        Raises:
            NotFound: the tenant has no such episode.
        """
        return await self.client.get_episode(self.tenant, episode_id)
