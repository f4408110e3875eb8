"""What an arm remembers of its earlier work, and what the fleet knows."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import JsonValue

from octarm.clients.memory import MemoryClient
from octarm.clients.semantic import SemanticClient
from octarm.models.episodes import EpisodeFound, EpisodicMemory, FindEpisodes
from octarm.models.errors import from_problem
from octarm.models.results import ProvenanceMetadata
from octarm.models.semantic import (
    EntityType,
    MemoryFilter,
    MemoryHit,
    NewMemory,
    RememberAnswer,
    SearchMemory,
)


@dataclass(frozen=True, slots=True)
class Recall:
    """A small client of the memory service, for one arm and one tenant.

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
