"""What an arm remembers of its earlier work, what it writes of its present one, what all know."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pydantic import JsonValue, ValidationError

from octarm.clients.episodes import EpisodeWriter
from octarm.clients.memory import MemoryClient
from octarm.clients.semantic import SemanticClient
from octarm.clients.write_behind import Behind
from octarm.models.episodes import (
    DEFAULT_TTL_S,
    Durability,
    EpisodeFound,
    EpisodeOpening,
    EpisodicMemory,
    FindEpisodes,
    Retention,
)
from octarm.models.errors import InvalidRequest, OctarmError, field_errors, from_problem
from octarm.models.ids import new_id
from octarm.models.results import ProvenanceMetadata
from octarm.models.semantic import (
    EntityType,
    MemoryFilter,
    MemoryHit,
    NewMemory,
    RememberAnswer,
    SearchMemory,
    SemanticMemory,
)
from octarm.sdk.episodes import OpenEpisode


@dataclass(frozen=True, slots=True)
class Recall:
    """A small client on the memory service, for one arm, one tenant and the task at hand.

    Every method raises `Unavailable` when the memory service does not answer. What reads episodes
    first waits for the fast entries that this attempt has under way, and raises the refusal of one.
    """

    client: MemoryClient
    tenant: str
    arm_id: str
    writer: EpisodeWriter
    task_id: str
    behind: Behind = field(default_factory=Behind)

    async def open(
        self,
        *,
        tags: Iterable[str] = (),
        ttl_seconds: int = DEFAULT_TTL_S,
        retention: Retention = "normal",
        durability: Durability = "durable",
    ) -> OpenEpisode:
        """Open an episode of the task at hand; `durability` is that of its entries.

        Raises:
            InvalidRequest: a tag or the TTL is not allowed.
        """
        try:
            opening = EpisodeOpening(
                task_id=self.task_id,
                arm_id=self.arm_id,
                tags=list(tags),
                ttl_seconds=ttl_seconds,
                retention=retention,
            )
        except ValidationError as error:
            raise InvalidRequest(
                "not a valid episode", errors=field_errors(error.errors())
            ) from error
        episode = OpenEpisode(self.writer, new_id("epi"), durability, self.behind)
        await episode.open(opening)
        return episode

    def resume(self, episode_id: str, *, durability: Durability = "durable") -> OpenEpisode:
        """Go on with an episode that was opened before."""
        return OpenEpisode(self.writer, episode_id, durability, self.behind)

    async def recent(
        self,
        k: int = 10,
        *,
        tag: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[EpisodicMemory]:
        """Give this arm's last `k` (1 – 500) episodes with the tenant, newest first.

        Only those begun at `since` or later, and before `until`, where these are given.
        """
        await self.behind.flushed()
        query = FindEpisodes(
            tenant=self.tenant, arm_id=self.arm_id, tag=tag, since=since, until=until, limit=k
        )
        return (await self.client.find_episodes(query)).episodes

    async def of_task(self, task_id: str) -> list[EpisodicMemory]:
        """Give the episodes of one task, of whichever arm."""
        await self.behind.flushed()
        query = FindEpisodes(tenant=self.tenant, task_id=task_id)
        return (await self.client.find_episodes(query)).episodes

    async def episode(self, episode_id: str) -> EpisodeFound:
        """Show one episode.

        Raises:
            NotFound: the tenant has no such episode.
        """
        await self.behind.flushed(episode_id)
        return await self.client.get_episode(self.tenant, episode_id)

    async def forget(self, episode_id: str) -> bool:
        """Delete an episode of the tenant everywhere; false when there was none."""
        with suppress(OctarmError):
            # What could not be written to it is of no interest any more.
            await self.behind.flushed(episode_id)
        return (await self.client.forget_episode(self.tenant, episode_id)).changed

    async def recall(
        self, query: str, k: int = 10, *, only: MemoryFilter | None = None
    ) -> list[MemoryHit]:
        """Find the `k` (1 – 100) memories of the fleet that fit a text best, the best first.

        Each says where its score comes from. What this arm may not read is left out.

        Raises:
            Forbidden: this arm may read nothing.
            Backpressure: it has read as often as it may.
        """
        question = SearchMemory(
            tenant=self.tenant,
            arm_id=self.arm_id,
            query=query,
            k=k,
            only=only or MemoryFilter(),
        )
        return (await self._knowledge.search(question)).hits

    async def get(self, memory_id: str) -> SemanticMemory:
        """Show one memory of the fleet, history too.

        Raises:
            NotFound: there is none, or this arm may not see it.
        """
        found = await self._knowledge.get(self.tenant, memory_id, arm_id=self.arm_id)
        return found.memory

    async def remember(
        self,
        content: str,
        *,
        entity_type: EntityType = "fact",
        metadata: dict[str, JsonValue] | None = None,
        confidence: float = 1.0,
        tags: Sequence[str] = (),
        memory_id: str | None = None,
        provenance: ProvenanceMetadata | None = None,
    ) -> RememberAnswer:
        """Have the fleet keep something; the same again is known and changes nothing.

        With a `subject` and a `predicate` in `metadata` it supersedes what was known about them.

        Raises:
            Forbidden: this arm may not write such a thing.
            Conflict: the id is another memory's.
        """
        memory = NewMemory(
            memory_id=memory_id,
            entity_type=entity_type,
            content=content,
            metadata=metadata or {},
            confidence=confidence,
            tags=list(tags),
            timestamp=datetime.now(UTC),
            provenance=provenance,
        )
        (answer,) = await self._knowledge.remember(self.tenant, self.arm_id, [memory])
        if answer.problem is not None:
            raise from_problem(answer.problem)
        return answer

    @property
    def _knowledge(self) -> SemanticClient:
        return SemanticClient(self.client.nc)
