"""What a tenant's memory holds: listed and counted, on real Postgres."""

import asyncio
from collections.abc import AsyncGenerator

import nats
import pytest
import pytest_asyncio

from octarm.clients.upkeep import UpkeepClient
from octarm.common.bus.requests import control_plane
from octarm.common.storage.connections import Pool
from octarm.memory.routes.upkeep import Upkeep, upkeep_routes
from octarm.memory.storage import upkeep as storage
from octarm.memory.storage.erasing import PostgresErasing
from octarm.memory.storage.upkeep import PostgresStock
from octarm.memory.usecases.erasing import BeginErasing, ShowErasure
from octarm.memory.usecases.upkeep import CountKnowledge, ListKnowledge
from octarm.models.semantic import NewMemory
from octarm.models.upkeep import ListMemories
from tests.support.semantic import Memory, a_memory_pool

pytestmark = pytest.mark.integration


@pytest_asyncio.fixture
async def pool(postgres_url: str) -> AsyncGenerator[Pool, None]:
    async with a_memory_pool(postgres_url) as pool:
        yield pool


async def test_lists_by_pages_and_counts_without_history_and_without_others(
    pool: Pool, nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Memory(pool)
    port = {"subject": "gateway", "predicate": "port"}
    await memory.remember(
        *(NewMemory(content=f"Squid {n} is blue.", tags=["sea"], merge=False) for n in range(7)),
        NewMemory(content="Bread.", entity_type="artifact", tags=["sea", "land"]),
        NewMemory(content="The port is 8080.", metadata=port),
    )
    await memory.remember(NewMemory(content="The port is 9090.", metadata=port), source="other")
    await memory.remember("Somebody else's.", tenant="other")
    stock = PostgresStock(pool)
    erasing = PostgresErasing(pool)
    router = upkeep_routes(
        Upkeep(
            ListKnowledge(stock),
            CountKnowledge(stock),
            BeginErasing(erasing, asyncio.Event()),
            ShowErasure(erasing),
        )
    )
    connection = await nats.connect(nats_url)
    client = UpkeepClient(connection, timeout_s=60)

    async with control_plane(nats_url, router, name="memory"):
        ids: list[str] = []
        after: str | None = None
        while True:
            page = await client.list(
                ListMemories(tenant="acme", tags=["sea"], after=after, limit=3)
            )
            ids += [one.memory_id for one in page.memories]
            assert len(page.memories) <= 3
            if (after := page.after) is None:
                break
        artifacts = await client.list(ListMemories(tenant="acme", entity_type="artifact"))
        monkeypatch.setattr(storage, "MAX_PAGE_BYTES", 1_000)
        small = await client.list(ListMemories(tenant="acme", limit=500))
        counted = await client.count("acme")
        nothing = await client.count("nobody")
    await connection.close()

    assert len(ids) == len(set(ids)) == 8
    assert ids == sorted(ids)
    assert [one.tags for one in artifacts.memories] == [["land", "sea"]]
    assert (len(small.memories), small.after) == (1, small.memories[0].memory_id)
    assert (counted.memories, counted.history) == (9, 1)
    assert counted.by_type == {"fact": 8, "artifact": 1}
    assert counted.by_tag == {"sea": 8, "land": 1}
    assert counted.by_source == {"writer": 8, "other": 1}
    assert sum(counted.by_embedder.values()) == 9
    assert (nothing.memories, nothing.oldest) == (0, None)
