"""Find, show and forget what the fleet knows: read path = access, rate, allow-lists, audit."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

from pydantic import BaseModel

from octarm.common.telemetry import metrics
from octarm.memory.domain.access import Access, Diodes, Narrowed, Scope, narrowed, shown
from octarm.memory.domain.ranking import Ranked, fused, weight_of
from octarm.memory.usecases.embedding import Embedders
from octarm.memory.usecases.knowledge import Audit, Audited, Knowing, VectorAsked
from octarm.memory.usecases.pacing import Pace
from octarm.models.errors import Forbidden, NotFound
from octarm.models.semantic import (
    ForgetMemory,
    GetMemory,
    MemoriesFound,
    MemoryForgotten,
    MemoryFound,
    MemoryHit,
    ScoreExplained,
    SearchMemory,
    SemanticMemory,
)

MAX_ANSWER_BYTES: Final = 700 * 1024
M = TypeVar("M", bound=BaseModel)
# So many of each list are ranked: further down, one list alone no longer lifts anything.
DEPTH: Final = 50
PER_HIT: Final = 4


@dataclass(frozen=True, slots=True)
class Reading:
    """What every read passes: who may, how often, and that it is noted."""

    diodes: Diodes
    pace: Pace
    audit: Audit
    now: Callable[[], datetime]

    def admit(self, tenant: str, arm_id: str | None, action: str, **about: Any) -> Access:
        """Give what the arm may do.

        Raises:
            Forbidden: nothing may be read.
            Backpressure: it has read as often as it may.
        """
        access = self.diodes.of(arm_id, tenant)
        entry = Audited(self.now(), tenant, arm_id, action, about)
        if access.read is None:
            self.audit.note(entry.decided("denied"))
            raise refused(arm_id, "read")
        if arm_id is not None and access.reads_per_minute is not None:
            self.pace.take(tenant, arm_id, access.reads_per_minute)
        self.audit.note(entry)
        return access


@dataclass(frozen=True, slots=True)
class SearchKnowledge:
    """Find memories by words and by meaning, in one order."""

    kept: Knowing
    embedders: Embedders
    reading: Reading

    async def __call__(self, query: SearchMemory) -> MemoriesFound:
        """
        Raises:
            Forbidden: the arm may read nothing.
            Backpressure: the arm has read as often as it may.
            InvalidRequest: the embedding is of another dimension.
            Unavailable: Postgres does not answer.
        """
        digest = hashlib.sha256(query.query.encode()).hexdigest()
        access = self.reading.admit(
            query.tenant, query.arm_id, "search", query_sha256=digest, k=query.k
        )
        scope = access.read or Scope()
        within = narrowed(query.only, scope)
        if within is None:
            return MemoriesFound(hits=[])
        vectors, names, degraded = await self._vectors(query)
        weight = weight_of(names) if query.mode == "hybrid" else 1.0
        ranked = await self._ranked(query, vectors, within, weight)
        memories = await self.kept.get(query.tenant, [one.memory_id for one in ranked])
        # Between the two questions one may have been forgotten, or superseded.
        hits = [
            _hit(shown(memories[one.memory_id], access), one)
            for one in ranked
            if one.memory_id in memories and memories[one.memory_id].superseded_by is None
        ]
        metrics.inc("octarm_memory_searches_total", mode=query.mode)
        return MemoriesFound(hits=fitting(hits[: query.k]), embedders=names, degraded=degraded)

    async def _vectors(self, query: SearchMemory) -> tuple[list[VectorAsked], list[str], str]:
        if query.mode == "text":
            return [], [], ""
        spaces = await self.kept.spaces(query.tenant)
        if query.embedding is None or query.embedder is None:
            return await self.embedders.question(query.query, spaces)
        vectors = self.embedders.given(query.embedding, query.embedder, spaces)
        return vectors, [query.embedder], ""

    async def _ranked(
        self, query: SearchMemory, vectors: list[VectorAsked], within: Narrowed, weight: float
    ) -> list[Ranked]:
        text = "" if query.mode == "vector" else query.query.strip()
        if not text and not vectors:
            return []
        lists = await self.kept.candidates(
            query.tenant,
            text,
            vectors,
            only=query.only,
            within=within,
            limit=max(DEPTH, PER_HIT * query.k),
        )
        # One more for each that may be gone by the time it is read.
        return fused(lists.text, lists.vector, vector_weight=weight)[: query.k + DEPTH // 10]


@dataclass(frozen=True, slots=True)
class ShowMemory:
    """Show one memory, and what came before it."""

    kept: Knowing
    reading: Reading

    async def __call__(self, query: GetMemory) -> MemoryFound:
        """
        Raises:
            NotFound: there is none, or the arm may not see it.
            Forbidden, Backpressure: as for a search.
        """
        access = self.reading.admit(query.tenant, query.arm_id, "get", memory_id=query.memory_id)
        found = (await self.kept.get(query.tenant, [query.memory_id])).get(query.memory_id)
        if found is None or not _may_see(access, found):
            raise NotFound(
                f"no memory {query.memory_id}",
                "It may have been forgotten; search for what it said.",
                "MEMORY_NOT_FOUND",
            )
        history: list[SemanticMemory] = []
        if query.history:
            history = await self.kept.history(query.tenant, query.memory_id)
        return MemoryFound(
            memory=shown(found, access),
            history=fitting([shown(one, access) for one in history if _may_see(access, one)]),
        )


@dataclass(frozen=True, slots=True)
class ForgetKnowledge:
    """Delete one memory with its history; idempotent."""

    kept: Knowing
    reading: Reading

    async def __call__(self, query: ForgetMemory) -> MemoryForgotten:
        """
        Raises:
            Forbidden: the arm may not write what this is.
        """
        access = self.reading.diodes.of(query.arm_id, query.tenant)
        about = {"memory_id": query.memory_id}
        entry = Audited(self.reading.now(), query.tenant, query.arm_id, "forget", about)
        found = (await self.kept.get(query.tenant, [query.memory_id])).get(query.memory_id)
        if access.write is None or (
            found is not None and not access.write.takes(found.entity_type, found.tags)
        ):
            self.reading.audit.note(entry.decided("denied"))
            raise refused(query.arm_id, "forget")
        if found is None:
            return MemoryForgotten(deleted=0)
        deleted = await self.kept.forget(query.tenant, query.memory_id, entry)
        return MemoryForgotten(deleted=deleted)


def fitting(items: list[M]) -> list[M]:
    """Give the first of them, as many as fit one message: about 700 KiB."""
    left = MAX_ANSWER_BYTES
    for number, item in enumerate(items):
        left -= len(item.model_dump_json().encode())
        if left < 0 and number:
            return items[:number]
    return items


def refused(arm_id: str | None, what: str) -> Forbidden:
    """Say that an arm may not do this."""
    return Forbidden(
        f"{arm_id} may not {what} this in memory",
        "What an arm may do stands in OCTARM_MEMORY_ACCESS of the memory service.",
        "CAPABILITY_VIOLATION",
    )


def _may_see(access: Access, memory: SemanticMemory) -> bool:
    return access.read is not None and access.read.has(memory.entity_type, memory.tags)


def _hit(memory: SemanticMemory, ranked: Ranked) -> MemoryHit:
    return MemoryHit(
        memory=memory,
        score=round(ranked.score, 6),
        explanation=ScoreExplained(
            text_rank=ranked.text_rank,
            text_score=round(ranked.text_score, 4),
            text_part=round(ranked.text_part, 6),
            vector_rank=ranked.vector_rank,
            vector_similarity=round(ranked.vector_similarity, 4),
            vector_part=round(ranked.vector_part, 6),
        ),
    )
