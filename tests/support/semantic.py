"""Semantic memory on a database, without a bus; and builders of what is remembered."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from octarm.common.storage.connections import Pool, open_pool
from octarm.common.storage.migrations import upgrade
from octarm.memory.domain.access import Access, Diodes
from octarm.memory.knowledge import knowledge_on
from octarm.memory.schema import MIGRATIONS, SCHEMA
from octarm.memory.storage.trail import AuditTrail
from octarm.memory.usecases.knowledge import Embedder
from octarm.models.commands import SubmitTask
from octarm.models.errors import OctarmError
from octarm.models.ids import new_id, typeid, uuid7
from octarm.models.queries import Accepted, SubmitAnswer
from octarm.models.semantic import (
    GetMemory,
    MemoriesFound,
    MemoryFound,
    NewMemory,
    Remember,
    RememberAnswer,
    SearchMemory,
)
from octarm.models.states import TaskState

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def a_memory_id(number: int = 1) -> str:
    return typeid("mem", uuid7(1_800_000_000_000 + number, number))


def at(minutes: int) -> datetime:
    """So many minutes past noon."""
    return NOON + timedelta(minutes=minutes)


@asynccontextmanager
async def a_memory_pool(url: str) -> AsyncGenerator[Pool, None]:
    """Migrate the database at `url` and open a pool on it."""
    upgrade(url, MIGRATIONS, SCHEMA)
    pool = await open_pool(url, name="test", wait_s=60)
    try:
        yield pool
    finally:
        await pool.close()


class RecordingTasks:
    """Takes tasks, unless it is told what to answer."""

    def __init__(self) -> None:
        self.submitted: list[tuple[str, SubmitTask]] = []
        self.refusal: OctarmError | None = None

    async def submit_many(self, tenant: str, tasks: Sequence[SubmitTask]) -> list[SubmitAnswer]:
        """Note them."""
        self.submitted += [(tenant, task) for task in tasks]
        if self.refusal is not None:
            return [SubmitAnswer(problem=self.refusal.problem())] * len(tasks)
        accepted = Accepted(task_id=new_id("tsk"), state=TaskState.QUEUED, created=True)
        return [SubmitAnswer(accepted=accepted)] * len(tasks)


class Memory:
    """What the service does, asked directly."""

    def __init__(
        self,
        pool: Pool,
        *,
        access: dict[str, Access] | None = None,
        embedder: Embedder | None = None,
    ) -> None:
        self.trail = AuditTrail(pool)
        diodes = Diodes(access or {})
        self.knowledge = knowledge_on(pool, diodes=diodes, embedder=embedder, audit=self.trail)

    async def remember(
        self, *memories: NewMemory | str, tenant: str = "acme", source: str = "writer"
    ) -> list[RememberAnswer]:
        """Keep these; a text is a fact."""
        given = [NewMemory(content=one) if isinstance(one, str) else one for one in memories]
        command = Remember(tenant=tenant, source=source, memories=given)
        return (await self.knowledge.remember(command)).answers

    async def search(
        self, query: str = "", *, tenant: str = "acme", **fields: Any
    ) -> MemoriesFound:
        """Find what fits."""
        return await self.knowledge.search(SearchMemory(tenant=tenant, query=query, **fields))

    async def contents(self, query: str, **fields: Any) -> list[str]:
        """Give what the memories say that fit."""
        return [hit.memory.content for hit in (await self.search(query, **fields)).hits]

    async def get(
        self, memory_id: str | None, *, tenant: str = "acme", **fields: Any
    ) -> MemoryFound:
        """Show one with its history."""
        query = GetMemory(tenant=tenant, memory_id=memory_id or "", history=True, **fields)
        return await self.knowledge.show(query)
