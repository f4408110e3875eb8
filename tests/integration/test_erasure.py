"""Erasing leaves no trace: every byte of Redis and of the tables is searched afterwards."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import nats
import psycopg
import pytest
import pytest_asyncio
from nats.aio.client import Client as NATS
from psycopg import sql
from pydantic import SecretStr
from redis.asyncio import Redis

from octarm.clients.episodes import Writers
from octarm.clients.memory import MemoryClient
from octarm.clients.semantic import SemanticClient
from octarm.clients.upkeep import UpkeepClient
from octarm.common.bus.topology import provision
from octarm.common.storage import open_pool, open_redis
from octarm.common.storage.migrations import upgrade
from octarm.memory.__main__ import main
from octarm.memory.domain.receipts import receipt_digest, subject_digest
from octarm.memory.migrate import MIGRATIONS, SCHEMA
from octarm.memory.settings import Settings
from octarm.memory.storage.erasing import PostgresErasing
from octarm.models.erasure import EraseSubject, Erasure, Subject
from octarm.models.errors import NotFound, OctarmError
from octarm.models.ids import new_id
from octarm.models.semantic import NewMemory, SearchMemory
from octarm.sdk.recall import Recall
from tests.support.wait import wait_until

pytestmark = pytest.mark.integration
ANN = "person:annabel-quux"
SECRET = "xyzzyplugh"


@pytest.fixture
def settings(nats_url: str, postgres_url: str, redis_url: str) -> Settings:
    upgrade(postgres_url, MIGRATIONS, SCHEMA)
    return Settings(
        nats_url=nats_url, postgres_url=SecretStr(postgres_url), redis_url=SecretStr(redis_url)
    )


@pytest_asyncio.fixture
async def bus(nats_url: str) -> AsyncGenerator[NATS, None]:
    connection = await nats.connect(nats_url)
    await provision(connection.jetstream())
    yield connection
    await connection.close()


@asynccontextmanager
async def a_memory(settings: Settings, bus: NATS) -> AsyncGenerator[UpkeepClient, None]:
    """A memory service in this process, once it answers."""
    stop = asyncio.Event()
    running = asyncio.create_task(main(settings, stop))
    client = UpkeepClient(bus, timeout_s=20)

    async def answers() -> bool:
        if running.done():
            await running
        try:
            await UpkeepClient(bus, timeout_s=1).count("nobody")
        except OctarmError:
            return False
        return True

    try:
        await wait_until(answers, 60)
        yield client
    finally:
        stop.set()
        await running


def recall_of(bus: NATS, tenant: str, task_id: str) -> Recall:
    client = MemoryClient(bus, timeout_s=20)
    return Recall(client, tenant, "writer", Writers(bus).of(tenant), task_id)


async def done(client: UpkeepClient, tenant: str, erasure_id: str) -> Erasure:
    async def is_done() -> bool:
        return (await client.erasure(tenant, erasure_id)).state == "done"

    await wait_until(is_done, 45)
    return await client.erasure(tenant, erasure_id)


async def everything_in(redis: Redis) -> bytes:
    """Every key of Redis with all that is behind it."""
    found: list[bytes] = []
    async for key in redis.scan_iter(count=1_000):
        found += (key, await redis.dump(key) or b"")
    return b"\n".join(found)


def everything_of(url: str) -> str:
    """Every row of every table of memory, and the planner's samples of them."""
    found: list[Any] = []
    with psycopg.connect(url) as connection:
        tables = connection.execute(
            "select tablename from pg_tables where schemaname = 'memory'"
        ).fetchall()
        for (table,) in tables:
            query = sql.SQL("select t::text from {} t").format(sql.Identifier("memory", table))
            found += connection.execute(query).fetchall()
        samples = "select s::text from pg_stats s where schemaname = 'memory'"
        found += connection.execute(samples).fetchall()
    return "\n".join(str(one) for (one,) in found)


async def fill(bus: NATS, tenant: str, *, tag: str, word: str) -> tuple[str, str]:
    """Write an episode and memories about somebody; gives a task's and a memory's id."""
    task_id = new_id("tsk")
    episode = await recall_of(bus, tenant, task_id).open(tags=[tag])
    await episode.observe({"said": word})
    await episode.outcome(f"{word} is done", durability="fast")
    await episode.close()
    knowledge = SemanticClient(bus, timeout_s=20)
    about = NewMemory(content=f"Her word is {word}.", tags=[tag], merge=False)
    (kept,) = await knowledge.remember(tenant, "writer", [about])
    assert kept.memory_id is not None
    origin = {"from": episode.episode_id}
    derived = [
        NewMemory(content=f"Learnt: {word}!", metadata=origin, merge=False),
        NewMemory(content=f"Seen {word}, says {kept.memory_id}.", merge=False),
        NewMemory(content=f"Nothing new in {task_id}.", merge=False),
    ]
    answers = await knowledge.remember(tenant, "writer", derived)
    second = NewMemory(
        content=f"And so {word}.", metadata={"of": answers[0].memory_id}, merge=False
    )
    await knowledge.remember(tenant, "writer", [second])
    await knowledge.search(SearchMemory(tenant=tenant, query=word, only={"tags": [tag]}))
    return task_id, kept.memory_id


async def test_nothing_of_a_person_remains_and_nothing_else_is_touched(
    bus: NATS, settings: Settings, postgres_url: str, redis_url: str
) -> None:
    async with a_memory(settings, bus) as client, open_redis(redis_url) as redis:
        task_id, _ = await fill(bus, "acme", tag=ANN, word=SECRET)
        knowledge = SemanticClient(bus, timeout_s=20)
        about_task = NewMemory(content=f"{task_id} again: {SECRET}", tags=[ANN], merge=False)
        await knowledge.remember("acme", "writer", [about_task])
        await fill(bus, "acme", tag="person:bob", word="bystander")
        await fill(bus, "other", tag=ANN, word="elsewhere")

        subject = Subject(tag=ANN)
        begun = await client.erase("acme", subject)
        receipt = await done(client, "acme", begun.erasure_id)
        again = await done(client, "acme", (await client.erase("acme", subject)).erasure_id)
        with pytest.raises(NotFound):
            await client.erasure("other", begun.erasure_id)
        in_redis = await everything_in(redis)
        counts = await client.count("acme")
        others = await client.count("other")
    in_postgres = everything_of(postgres_url)

    assert SECRET not in in_postgres
    # What names only the task is about the task: that would be another order.
    assert f"Nothing new in {task_id}." in in_postgres
    assert SECRET.encode() not in in_redis
    assert not [line for line in in_postgres.splitlines() if ANN in line and "acme" in line]
    assert receipt.counts["episodes"] == 1
    assert receipt.counts["postgres.semantic"] == 5
    assert receipt.subject_sha256 == subject_digest(receipt.erasure_id, subject).hex()
    assert receipt.digest == receipt_digest(receipt)
    assert (again.state, again.counts) == ("done", {})
    assert again.erasure_id != receipt.erasure_id
    assert "bystander" in in_postgres
    assert "elsewhere" in in_postgres
    assert (counts.memories, counts.episodes) == (6, 1)
    assert (others.memories, others.episodes) == (5, 1)


async def test_nothing_of_a_task_or_of_a_tenant_remains(
    bus: NATS, settings: Settings, postgres_url: str, redis_url: str
) -> None:
    async with a_memory(settings, bus) as client, open_redis(redis_url) as redis:
        task_id, memory_id = await fill(bus, "acme", tag="docs", word=SECRET)
        await fill(bus, "lonely-tenant", tag=ANN, word="plover")
        begun = await client.erase("acme", Subject(task_id=task_id))
        of_task = await done(client, "acme", begun.erasure_id)
        after_task = everything_of(postgres_url)
        begun = await client.erase("lonely-tenant", Subject(everything=True))
        of_tenant = await done(client, "lonely-tenant", begun.erasure_id)
        in_redis = await everything_in(redis)
    in_postgres = everything_of(postgres_url)

    assert task_id not in after_task
    # The tagged memory was not made from the task: it is there, and what was made from it.
    assert f"Her word is {SECRET}." in after_task
    assert f"Learnt: {SECRET}!" not in after_task
    assert of_task.counts["episodes"] == 1
    assert of_task.counts["postgres.semantic"] == 3
    for trace in ("lonely-tenant", "plover"):
        assert trace not in in_postgres
        assert trace.encode() not in in_redis
    assert of_tenant.counts["postgres.semantic"] == 5
    assert memory_id in in_postgres


async def test_goes_on_with_what_another_began_and_begins_nothing_twice(
    bus: NATS, settings: Settings, postgres_url: str
) -> None:
    async with a_memory(settings, bus):
        await fill(bus, "acme", tag=ANN, word=SECRET)
    pool = await open_pool(postgres_url, name="test", wait_s=60)
    kept = PostgresErasing(pool)
    command = EraseSubject(tenant="acme", subject=Subject(tag=ANN))
    first = await kept.begin(f"era_{'a' * 32}", command)
    second = await kept.begin(f"era_{'b' * 32}", command)
    (running,) = await kept.running()
    # As far as a process came that was killed.
    await kept.knowledge(running)
    await pool.close()

    async with a_memory(settings, bus) as client:
        receipt = await done(client, "acme", first.erasure_id)

    assert second == first
    assert receipt.counts["episodes"] == 1
    assert receipt.counts["postgres.semantic"] >= 2
    in_postgres = everything_of(postgres_url)
    assert ANN not in in_postgres
    assert f"Her word is {SECRET}" not in in_postgres
    assert f"Learnt: {SECRET}" not in in_postgres
