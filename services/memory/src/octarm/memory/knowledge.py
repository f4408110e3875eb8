"""The half of the service that is about what the fleet knows, wired; `__main__` runs it."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from faststream.nats import NatsRouter
from nats.aio.client import Client as NATS

from octarm.clients.orchestrator import OrchestratorClient
from octarm.common.service import when_reloaded
from octarm.common.storage.connections import Pool
from octarm.memory.domain.access import Diodes
from octarm.memory.embedders.hashing import HashingEmbedder
from octarm.memory.embedders.local import LocalEmbedder, local_embedder
from octarm.memory.embedders.openai_compatible import OpenAIEmbedder
from octarm.memory.routes.semantic import Knowledge, semantic_routes
from octarm.memory.settings import Settings
from octarm.memory.storage.ageing import PostgresKnowledgeAge
from octarm.memory.storage.consolidation import PostgresAgenda
from octarm.memory.storage.episodes import PostgresEpisodes
from octarm.memory.storage.keeping import PostgresKeeper
from octarm.memory.storage.reembedding import PostgresReembedding
from octarm.memory.storage.semantic import PostgresKnowledge
from octarm.memory.storage.trail import AuditTrail
from octarm.memory.storage.words import PostgresWords
from octarm.memory.usecases.ageing import ForgetOld
from octarm.memory.usecases.condensing import AskForCondensing
from octarm.memory.usecases.consolidating import Consolidate
from octarm.memory.usecases.embedding import Embedders
from octarm.memory.usecases.finding import ForgetKnowledge, Reading, SearchKnowledge, ShowMemory
from octarm.memory.usecases.keeping import RememberKnowledge
from octarm.memory.usecases.knowledge import Audit, Embedder
from octarm.memory.usecases.pacing import Pace
from octarm.memory.usecases.reembedding import Reembed

EXPIRED: Final = "octarm_memory_expired_total"


@dataclass(frozen=True, slots=True)
class Wired:
    """What `__main__` includes and runs."""

    routes: NatsRouter
    knowledge: Knowledge
    trail: AuditTrail
    words: PostgresWords
    consolidate: Consolidate
    forget_old: ForgetOld

    def work(self, stop: asyncio.Event) -> list[Awaitable[None]]:
        """Give the long-lived work; each part ends with `stop`."""
        return [
            self.trail.run(stop),
            self.words.run(stop),
            self.knowledge.reembed.run(stop),
            self.consolidate.run(stop),
            self.forget_old.run(stop),
        ]


@asynccontextmanager
async def wired(settings: Settings, pool: Pool, nc: NATS) -> AsyncGenerator[Wired, None]:
    """Wire it; at the end what was noted is written, and connections are closed."""
    model = _model(settings)
    trail = AuditTrail(pool)
    diodes = Diodes(settings.memory_access)
    when_reloaded(lambda again: setattr(diodes, "declared", again.memory_access))
    knowledge = knowledge_on(pool, diodes=diodes, embedder=model, audit=trail)
    days = {str(name): number for name, number in settings.knowledge_days.items()}
    try:
        yield Wired(
            semantic_routes(knowledge),
            knowledge,
            trail,
            PostgresWords(pool),
            consolidate_on(
                pool,
                knowledge,
                wait_s=settings.episode_ttl_s // 2,
                condense=_condense(settings, nc),
            ),
            ForgetOld(PostgresKnowledgeAge(pool), days, EXPIRED),
        )
    finally:
        await trail.flush()
        if isinstance(model, OpenAIEmbedder):
            await model.aclose()


def knowledge_on(
    pool: Pool, *, diodes: Diodes, embedder: Embedder | None, audit: Audit
) -> Knowledge:
    """Give the use cases on a database; without an embedder words and letters are hashed."""
    kept, keeper, hashing = PostgresKnowledge(pool), PostgresKeeper(pool), HashingEmbedder()
    # What was kept before a model was named is found by what made its vectors.
    embedders = Embedders(embedder or hashing, [hashing])
    reading = Reading(diodes, Pace(), audit, _now)
    return Knowledge(
        RememberKnowledge(keeper, embedders, diodes, audit, _now),
        SearchKnowledge(kept, embedders, reading),
        ShowMemory(kept, reading),
        ForgetKnowledge(kept, reading),
        Reembed(PostgresReembedding(pool), embedders.current, keeper.space_of),
    )


def consolidate_on(
    pool: Pool,
    knowledge: Knowledge,
    *,
    wait_s: int,
    condense: AskForCondensing | None = None,
) -> Consolidate:
    """Give what looks episodes through; one that is not closed `wait_s` after its last entry."""
    episodes = PostgresEpisodes(pool)
    return Consolidate(PostgresAgenda(pool), episodes, knowledge.remember, wait_s, condense)


def _condense(settings: Settings, nc: NATS) -> AskForCondensing | None:
    if not settings.condense_tokens:
        return None
    tasks, per_hour = OrchestratorClient(nc), settings.condense_per_hour
    return AskForCondensing(tasks, settings.condense_tokens, per_hour, time.monotonic)


def _model(settings: Settings) -> OpenAIEmbedder | LocalEmbedder | None:
    if settings.embeddings_url is None:
        return local_embedder() if settings.embeddings_model else None
    return OpenAIEmbedder(
        base_url=settings.embeddings_url,
        model=settings.embeddings_model,
        dimension=settings.embeddings_dimension,
        api_key=settings.embeddings_key,
    )


def _now() -> datetime:
    return datetime.now(UTC)
