"""Erasing leaves no trace: every byte of Redis and of the tables is searched afterwards."""

from collections.abc import AsyncGenerator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import pytest_asyncio
from nats.aio.client import Client as NATS
from psycopg import sql
from redis.asyncio import Redis

from octarm.clients.episodes import Writers
from octarm.clients.memory import MemoryClient
from octarm.clients.semantic import SemanticClient
from octarm.clients.upkeep import UpkeepClient
from octarm.common.storage import open_pool, open_redis
from octarm.common.storage.connections import Pool
from octarm.memory.domain.receipts import receipt_digest, subject_digest
from octarm.memory.settings import Settings
from octarm.memory.storage.erasing import PostgresErasing
from octarm.memory.storage.writes import PostgresWrites
from octarm.memory.usecases.erasing import Erase, Running
from octarm.memory.usecases.ports import FrontDown
from octarm.models.episodes import ForgetEpisode
from octarm.models.erasure import EraseSubject, Erasure, Subject
from octarm.models.errors import NotFound, Unavailable
from octarm.models.ids import new_id
from octarm.models.semantic import NewMemory, SearchMemory
from octarm.sdk.recall import Recall
from tests.support.memory_service import a_memory, a_provisioned_bus, drained, memory_settings
from tests.support.wait import PATIENCE_S, wait_until

pytestmark = pytest.mark.integration
ANN = "person:annabel-quux"
SECRET = "xyzzyplugh"
# Of the calls of an erasure, those before which it is killed: 0 episodes, 1 note, 2 forget, 3 gone,
# 4 none left, 5 memories, 6 forgotten, 7 Redis, 8 traces, 9 end.
KILLED_BEFORE = (2, 3, 5, 7, 8, 9)


@pytest.fixture
def settings(nats_url: str, postgres_url: str, redis_url: str) -> Settings:
    return memory_settings(nats_url, postgres_url, redis_url)


@pytest_asyncio.fixture
async def bus(nats_url: str) -> AsyncGenerator[NATS, None]:
    async with a_provisioned_bus(nats_url) as bus:
        yield bus


def recall_of(bus: NATS, tenant: str, task_id: str) -> Recall:
    client = MemoryClient(bus, timeout_s=PATIENCE_S)
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
    knowledge = SemanticClient(bus, timeout_s=PATIENCE_S)
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
        knowledge = SemanticClient(bus, timeout_s=PATIENCE_S)
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


class Killed(BaseException):
    """The process is no more."""


class Cut:
    """Lets so many calls through to what it stands for; then the process is killed."""

    def __init__(self, behind: Any, left: list[int]) -> None:
        self._behind, self._left = behind, left

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._behind, name)

        def call(*given: Any) -> Any:
            self._left[0] -= 1
            if self._left[0] < 0:
                raise Killed
            return method(*given)

        return call


class Stores:
    """What an erasure needs beside its tables; Redis is away while episodes are forgotten."""

    def __init__(self, pool: Pool, redis: Redis, *, down: bool = False) -> None:
        self._entries, self._redis, self._down = PostgresWrites(pool), redis, down

    async def forget(self, query: ForgetEpisode) -> None:
        await self._entries.bury(query.tenant, query.episode_id)
        await self._entries.delete(query.tenant, query.episode_id)

    async def bury(self, tenant: str, episode_id: str) -> None:
        if self._down:
            raise FrontDown
        await self._redis.unlink(f"octarm:memory:episode:{tenant}:{episode_id}")

    async def settle(self) -> None:
        """Nothing was read meanwhile."""


def an_erase(pool: Pool, stores: Stores, left: list[int]) -> Erase:
    cut = Cut(stores, left)
    return Erase(Cut(PostgresErasing(pool), left), cut.forget, cut, stores.settle)


async def begun_for(pool: Pool, tenant: str) -> Running:
    command = EraseSubject(tenant=tenant, subject=Subject(tag=ANN))
    kept = PostgresErasing(pool)
    begun = await kept.begin(f"era_{uuid4().hex}", command)
    return next(one for one in await kept.running() if one.erasure_id == begun.erasure_id)


async def test_ends_wherever_it_is_killed_and_when_redis_was_away(
    bus: NATS, settings: Settings, postgres_url: str, redis_url: str
) -> None:
    pool = await open_pool(postgres_url, name="test", wait_s=60)
    tenants = {f"t-{calls}": calls for calls in KILLED_BEFORE}
    async with open_redis(redis_url) as redis:
        async with a_memory(settings, bus):
            for tenant in (*tenants, "away"):
                await fill(bus, tenant, tag=ANN, word=SECRET)
            await wait_until(lambda: drained(bus))
        begun = {}
        for tenant, calls in tenants.items():
            begun[tenant] = await begun_for(pool, tenant)
            with pytest.raises(Killed):
                await an_erase(pool, Stores(pool, redis), [calls])(begun[tenant])
        begun["away"] = await begun_for(pool, "away")
        with pytest.raises(Unavailable):
            await an_erase(pool, Stores(pool, redis, down=True), [1_000])(begun["away"])
        async with a_memory(settings, bus) as client:
            receipts = [await done(client, one.tenant, one.erasure_id) for one in begun.values()]
        in_redis = await everything_in(redis)
    await pool.close()
    in_postgres = everything_of(postgres_url)

    assert SECRET not in in_postgres
    assert SECRET.encode() not in in_redis
    for receipt in receipts:
        assert receipt.counts["episodes"] == 1
        assert receipt.counts["postgres.semantic"] == 4
        assert receipt.digest == receipt_digest(receipt)
