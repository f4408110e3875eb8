"""Show one episode, list many."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from octarm.common.telemetry import metrics
from octarm.memory.domain.entries import encode, fold
from octarm.memory.domain.paging import Question, cursor_after, read_cursor
from octarm.memory.usecases.loading import LoadEpisode
from octarm.memory.usecases.ports import Cached, Episodes, Front, FrontDown, Kept, Key
from octarm.models.episodes import (
    EpisodesFound,
    EpisodicMemory,
    FindEpisodes,
    GetEpisode,
    Source,
)
from octarm.models.errors import NotFound, Unavailable

MAX_PAGE_BYTES: Final = 700 * 1024


class Shown(NamedTuple):
    """An `EpisodeFound` whose episode is JSON already."""

    body: bytes
    source: Source
    degraded: bool = False
    complete: bool = True


@dataclass(frozen=True, slots=True)
class ShowEpisode:
    """Show one episode: from Redis, else from Postgres, and then put it in Redis."""

    front: Front
    load: LoadEpisode
    note: Callable[[Key], None] | None = None

    async def __call__(self, query: GetEpisode) -> Shown:
        """
        Raises:
            NotFound: the tenant has no such episode.
            Unavailable: it is not in Redis, and Postgres or the stream does not answer.
        """
        degraded = False
        cached: Cached | None = None
        try:
            cached = await self.front.get(query.tenant, query.episode_id)
        except FrontDown:
            degraded = True
        if cached is not None:
            if cached.body is None:
                raise _not_found(query.episode_id)
            return self._hot((query.tenant, query.episode_id), cached.body)
        found = await self.load(query.tenant, query.episode_id)
        if found.whole is None:
            if not found.complete:
                raise Unavailable("the stream is behind: ask again", retry_after_s=1)
            metrics.inc("octarm_memory_reads_total", source="none")
            raise _not_found(query.episode_id)
        metrics.inc("octarm_memory_reads_total", source="postgres")
        degraded = degraded or found.degraded
        return Shown(found.body, "postgres", degraded=degraded, complete=found.complete)

    def begin(self, query: GetEpisode, tell: Callable[[Shown | None], None]) -> bool:
        """Have `tell` called with what Redis has, None if a call must find out what there is.

        False: Redis cannot be asked now, and `tell` is not called.
        """
        key = query.tenant, query.episode_id

        def told(cached: Cached | None) -> None:
            body = None if cached is None else cached.body
            tell(None if body is None else self._hot(key, body))

        return self.front.begin_get(key, told)

    def _hot(self, key: Key, body: bytes) -> Shown:
        metrics.inc("octarm_memory_reads_total", source="redis")
        if self.note is not None:
            self.note(key)
        return Shown(body, "redis")


def _not_found(episode_id: str) -> NotFound:
    return NotFound(
        f"no episode {episode_id}",
        "An episode is there soon after its task has ended; check the id.",
        "EPISODE_NOT_FOUND",
    )


@dataclass(frozen=True, slots=True)
class ListEpisodes:
    """Page through a tenant's episodes, the one of the newest task first.

    A page holds at most `limit` episodes and about 700 KiB, so that it fits one message.
    """

    kept: Episodes
    load: LoadEpisode

    async def __call__(self, query: FindEpisodes) -> EpisodesFound:
        """
        Raises:
            Unparsable: the cursor is not of this list (400, INVALID_PARAMETER).
            Unavailable: Postgres does not answer.
        """
        question = Question(
            query.tenant,
            arm_id=query.arm_id,
            task_id=query.task_id,
            tag=query.tag,
            since=query.since,
            until=query.until,
        )
        after = read_cursor(question, query.cursor)
        complete = await self.load.drained()
        found = await self.kept.find(question, after=after, limit=query.limit + 1)
        page = _page(found, query.limit)
        more = len(page) < len(found)
        return EpisodesFound(
            episodes=[EpisodicMemory.model_validate_json(body) for body in page],
            cursor=cursor_after(question, found[len(page) - 1].base.episode_id) if more else "",
            complete=complete,
        )


def _page(found: Sequence[Kept], limit: int) -> list[bytes]:
    page: list[bytes] = []
    size = 0
    for one in found[:limit]:
        body = one.base.body.encode()
        if one.entries:
            body = encode(fold(body, one.entries))
        size += len(body)
        if page and size > MAX_PAGE_BYTES:
            break
        page.append(body)
    return page
