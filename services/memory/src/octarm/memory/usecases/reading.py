"""Show one episode, list many."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError

from octarm.common import telemetry
from octarm.common.telemetry import metrics
from octarm.memory.domain.episode import Episode
from octarm.memory.domain.paging import Question, cursor_after, read_cursor
from octarm.memory.usecases.front import put_in_front
from octarm.memory.usecases.ports import Episodes, Front, FrontDown
from octarm.models.episodes import (
    EpisodeFound,
    EpisodesFound,
    EpisodicMemory,
    FindEpisodes,
    GetEpisode,
)
from octarm.models.errors import NotFound
from octarm.models.ids import with_prefix

MAX_PAGE_BYTES: Final = 700 * 1024

log = telemetry.get_logger()


@dataclass(frozen=True, slots=True)
class ShowEpisode:
    """Show one episode: from Redis, else from Postgres, and then put it in Redis."""

    kept: Episodes
    front: Front

    async def __call__(self, query: GetEpisode) -> EpisodeFound:
        """
        Raises:
            NotFound: the tenant has no such episode.
            Unavailable: it is not in Redis and Postgres does not answer.
        """
        degraded = False
        try:
            cached = await self.front.get(query.tenant, query.episode_id)
        except FrontDown:
            degraded, cached = True, None
        episode = _read(cached, query)
        if episode is not None:
            metrics.inc("octarm_memory_reads_total", source="redis")
            return EpisodeFound(episode=episode, source="redis")
        found = await self.kept.get(query.tenant, query.episode_id)
        if found is None:
            metrics.inc("octarm_memory_reads_total", source="none")
            raise NotFound(
                f"no episode {query.episode_id}",
                "An episode is there soon after its task has ended; check the id.",
                "EPISODE_NOT_FOUND",
            )
        metrics.inc("octarm_memory_reads_total", source="postgres")
        degraded = degraded or not await put_in_front(self.front, [found])
        memory = EpisodicMemory.model_validate_json(found.body)
        return EpisodeFound(episode=memory, source="postgres", degraded=degraded)


@dataclass(frozen=True, slots=True)
class ListEpisodes:
    """Page through a tenant's episodes, the one of the newest task first.

    A page holds at most `limit` episodes and about 700 KiB, so that it fits one message.
    """

    kept: Episodes

    async def __call__(self, query: FindEpisodes) -> EpisodesFound:
        """
        Raises:
            Unparsable: the cursor is not of this list (400, INVALID_PARAMETER).
            Unavailable: Postgres does not answer.
        """
        question = Question(query.tenant, query.arm_id, query.task_id)
        found = await self.kept.find(
            query.tenant,
            arm_id=query.arm_id,
            episode_id=with_prefix("epi", query.task_id) if query.task_id else None,
            after=read_cursor(question, query.cursor),
            limit=query.limit + 1,
        )
        page = _page(found, query.limit)
        more = len(page) < len(found)
        return EpisodesFound(
            episodes=[EpisodicMemory.model_validate_json(one.body) for one in page],
            cursor=cursor_after(question, page[-1].episode_id) if more else "",
        )


def _page(found: Sequence[Episode], limit: int) -> list[Episode]:
    page: list[Episode] = []
    size = 0
    for episode in found[:limit]:
        size += len(episode.body.encode())
        if page and size > MAX_PAGE_BYTES:
            break
        page.append(episode)
    return page


def _read(cached: bytes | None, query: GetEpisode) -> EpisodicMemory | None:
    """Read what Redis had; what is not this episode is a miss."""
    if cached is None:
        return None
    try:
        episode = EpisodicMemory.model_validate_json(cached)
    except ValidationError:
        log.warning("cached_episode_unreadable", episode_id=query.episode_id)
        return None
    if (episode.tenant, episode.episode_id) != (query.tenant, query.episode_id):
        log.warning("cached_episode_of_another", episode_id=query.episode_id)
        return None
    return episode
