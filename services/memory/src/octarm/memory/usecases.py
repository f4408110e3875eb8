"""Remember finished tasks; show and list episodes. Postgres keeps them, Redis is in front."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from pydantic import ValidationError

from octarm.common import telemetry
from octarm.common.clock import set_within
from octarm.common.telemetry import metrics
from octarm.memory.domain.episode import Episode
from octarm.memory.domain.paging import Question, cursor_after, read_cursor
from octarm.models.errors import NotFound, OctarmError
from octarm.models.ids import with_prefix
from octarm.models.memory import EpisodicMemory
from octarm.models.queries import EpisodeFound, EpisodesFound, FindEpisodes, GetEpisode

MAX_PAGE_BYTES: Final = 700 * 1024
FORGET_EVERY_S: Final = 3600.0
FORGET_PAUSE_S: Final = 0.1

log = telemetry.get_logger()


class FrontDown(Exception):
    """Redis does not answer now."""


class Episodes(Protocol):
    """Where episodes are kept for good. All raise `Unavailable` when it does not answer."""

    async def add(self, episodes: Sequence[Episode]) -> Mapping[str, str]:
        """Keep these; one that is known already stays as it is.

        Gives episode id → reason for those that can never be kept.
        """
        ...

    async def get(self, tenant: str, episode_id: str) -> Episode | None:
        """Give a tenant's episode."""
        ...

    async def find(
        self,
        tenant: str,
        *,
        arm_id: str | None,
        episode_id: str | None,
        after: str | None,
        limit: int,
    ) -> list[Episode]:
        """Give a tenant's episodes by id, descending, from below `after`."""
        ...


class Front(Protocol):
    """A cache in front. All raise `FrontDown` when it does not answer."""

    async def put(self, episodes: Sequence[Episode]) -> None:
        """Keep these for their time."""
        ...

    async def get(self, tenant: str, episode_id: str) -> bytes | None:
        """Give what is there, whatever it is."""
        ...


class Ageing(Protocol):
    """Where old episodes are deleted."""

    async def forget(self, *, days: int) -> int:
        """Delete some that are older; gives their number. Raises `Unavailable`."""
        ...


@dataclass(frozen=True, slots=True)
class ForgetOld:
    """Delete episodes after their days, a batch at a time, once an hour."""

    kept: Ageing
    days: int

    async def run(self, stop: asyncio.Event) -> None:
        """Look until `stop` is set; what fails is tried again with the next look."""
        while not stop.is_set():
            try:
                while not stop.is_set() and (gone := await self.kept.forget(days=self.days)):
                    metrics.inc("octarm_memory_episodes_forgotten_total", gone)
                    await set_within(stop, FORGET_PAUSE_S)
            except OctarmError as error:
                log.warning("episodes_not_forgotten", error=error.message)
            await set_within(stop, FORGET_EVERY_S)


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


async def put_in_front(front: Front, episodes: Sequence[Episode]) -> bool:
    """Put episodes in Redis; false when it does not answer, which only makes reads slower."""
    try:
        await front.put(episodes)
    except FrontDown:
        metrics.put("octarm_memory_degraded", 1)
        return False
    metrics.put("octarm_memory_degraded", 0)
    return True


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
