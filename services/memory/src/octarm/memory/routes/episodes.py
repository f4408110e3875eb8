"""The queries about episodes."""

from typing import Final

from faststream.nats import NatsRouter

from octarm.common.bus.requests import answer
from octarm.memory.usecases.reading import ListEpisodes, ShowEpisode
from octarm.models import subjects
from octarm.models.episodes import EpisodeFound, EpisodesFound, FindEpisodes, GetEpisode

QUEUE: Final = "memory"


def episode_routes(show: ShowEpisode, find: ListEpisodes) -> NatsRouter:
    """Give the control plane of episodes; nothing connects until a broker includes it."""
    router = NatsRouter()

    @answer(router, subjects.GET_EPISODE, queue=QUEUE)
    async def get_episode(query: GetEpisode) -> EpisodeFound:
        return await show(query)

    @answer(router, subjects.FIND_EPISODES, queue=QUEUE)
    async def find_episodes(query: FindEpisodes) -> EpisodesFound:
        return await find(query)

    return router
