"""Ask the memory service: episodes, one by one; `octarm.clients.episodes` writes many."""

from dataclasses import dataclass

from nats.aio.client import Client

from octarm.common.bus.requests import ask
from octarm.models import subjects
from octarm.models.episodes import (
    EpisodeForgotten,
    EpisodeFound,
    EpisodesFound,
    EpisodesWritten,
    FindEpisodes,
    ForgetEpisode,
    GetEpisode,
    WriteEpisodes,
)


@dataclass(frozen=True, slots=True)
class MemoryClient:
    """Requests to the memory service over a connection that somebody else closes.

    Each method raises the `OctarmError` that was answered, `Unavailable` when nobody answers,
    or `TimedOut` after `timeout_s` seconds: memory itself waits up to four for what is on its
    way to Postgres, before it says that an answer may lack it.
    """

    nc: Client
    timeout_s: float = 10.0

    async def get_episode(self, tenant: str, episode_id: str) -> EpisodeFound:
        """Show one episode and where it came from.

        Raises:
            NotFound: the tenant has no such episode.
        """
        message = GetEpisode(tenant=tenant, episode_id=episode_id)
        return await ask(self.nc, subjects.GET_EPISODE, message, timeout_s=self.timeout_s)

    async def find_episodes(self, query: FindEpisodes) -> EpisodesFound:
        """List a page of a tenant's episodes, newest first."""
        return await ask(self.nc, subjects.FIND_EPISODES, query, timeout_s=self.timeout_s)

    async def write_episodes(self, wanted: WriteEpisodes) -> EpisodesWritten:
        """Write entries; one answer each, in order. Sent again, they are written once."""
        return await ask(self.nc, subjects.WRITE_EPISODES, wanted, timeout_s=self.timeout_s)

    async def forget_episode(self, tenant: str, episode_id: str) -> EpisodeForgotten:
        """Delete an episode everywhere; what still comes for it is dropped."""
        message = ForgetEpisode(tenant=tenant, episode_id=episode_id)
        return await ask(self.nc, subjects.FORGET_EPISODE, message, timeout_s=self.timeout_s)
