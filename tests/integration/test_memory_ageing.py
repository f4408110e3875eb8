"""What is old leaves semantic memory, what comes and goes is told, and who may is said anew."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, cast

import nats
import pytest
import pytest_asyncio
from nats.aio.client import Client as NATS
from pydantic import SecretStr

from octarm.common.bus.publisher import Publisher
from octarm.common.bus.topology import provision
from octarm.common.storage.connections import Pool
from octarm.memory import knowledge
from octarm.memory.domain.access import Access
from octarm.memory.knowledge import consolidate_on, wired
from octarm.memory.settings import Settings
from octarm.memory.storage.ageing import PostgresKnowledgeAge
from octarm.memory.storage.events import MemoryEvents
from octarm.memory.storage.stream import WritesStream
from octarm.memory.storage.writes import PostgresWrites
from octarm.models.events import MemoryEvent
from octarm.models.semantic import NewMemory, Remember
from octarm.models.subjects import EVENTS
from tests.support.episodes import a_closing, an_entry, an_opening
from tests.support.semantic import Memory, a_memory_pool

pytestmark = pytest.mark.integration


@pytest_asyncio.fixture
async def pool(postgres_url: str) -> AsyncGenerator[Pool, None]:
    async with a_memory_pool(postgres_url) as pool:
        yield pool


async def rows(pool: Pool, sql: str) -> list[tuple[Any, ...]]:
    async with pool.connection() as connection:
        cursor = await connection.execute(sql.encode())
        return await cursor.fetchall() if cursor.description else []


async def forget(pool: Pool, **days: int) -> None:
    kept = PostgresKnowledgeAge(pool)
    for name, number in days.items():
        while await kept.forget(days=number, retention=name):
            pass
    await kept.sweep()


async def test_rows_leave_after_the_days_of_their_class(pool: Pool) -> None:
    memory = Memory(pool)
    port = {"subject": "gateway", "predicate": "port"}
    await memory.remember(NewMemory(content="The port is 1.", metadata=port))
    await memory.remember(
        NewMemory(content="The port is 2.", metadata=port),
        NewMemory(content="A decision.", entity_type="decision"),
        NewMemory(content="Of a task.", entity_type="task"),
    )
    await memory.remember("Somebody else's.", tenant="other")
    await rows(pool, "update memory.semantic set kept_at = kept_at - interval '10 days'")
    await rows(pool, "update memory.audit set at = at - interval '10 days'")
    await memory.remember("Young.")

    await forget(pool, decision=11, task=9, fact=9, audit=9)

    left = await rows(pool, "select content from memory.semantic order by content")
    assert left == [("A decision.",), ("Young.",)]
    assert await rows(pool, "select count(*) from memory.audit") == [(1,)]
    told = await rows(pool, "select verb, count(*) from memory.untold group by 1")
    assert told == [("expired", 3)]


async def test_history_leaves_before_what_it_is_the_history_of(pool: Pool) -> None:
    memory = Memory(pool)
    port = {"subject": "gateway", "predicate": "port"}
    for number in (1, 2):
        await memory.remember(NewMemory(content=f"The port is {number}.", metadata=port))
    await rows(pool, "update memory.semantic set superseded_at = superseded_at - interval '9 days'")

    await forget(pool, history=8)

    assert await rows(pool, "select content from memory.semantic") == [("The port is 2.",)]


async def test_what_comes_out_of_an_episode_is_told_once_whatever_dies(
    pool: Pool, nats_url: str
) -> None:
    wish = {"remember": {"content": "Squids have ink"}}
    await PostgresWrites(pool).keep([an_opening(1), an_entry("1", wish), a_closing(1)])
    consolidate = consolidate_on(pool, Memory(pool).knowledge, wait_s=3600)
    await consolidate.catch_up(asyncio.Event())
    await rows(pool, "update memory.consolidation set done_at = null")
    await consolidate.catch_up(asyncio.Event())
    await Memory(pool).remember("Not out of an episode.")
    connection = await nats.connect(nats_url)
    await provision(connection.jetstream())
    publisher = Publisher(connection)
    events = MemoryEvents(pool, publisher)
    try:
        (row,) = await rows(pool, "select tenant, memory_id, verb, at from memory.untold")
        first = await events.tell()
        # As if it had died between publishing and deleting.
        async with pool.connection() as other:
            await other.execute(
                "insert into memory.untold (tenant, memory_id, verb, at) values (%s, %s, %s, %s)",
                row,
            )
        again = await events.tell()
        stream = await connection.jetstream().stream_info(EVENTS)
        stored = await connection.jetstream().get_msg(EVENTS, stream.state.last_seq)
    finally:
        await publisher.close()
        await connection.close()

    assert (first, again, await events.tell()) == (1, 1, 0)
    assert stream.state.messages == 1
    assert stored.data is not None
    event = MemoryEvent.model_validate_json(stored.data)
    assert (event.type, event.memory_id, event.tenant) == ("memory.promoted", row[1], row[0])
    assert (stored.headers or {})["ce-id"] == event.event_id


async def test_the_stream_says_for_how_long_its_oldest_write_waits(nats_url: str) -> None:
    connection = await nats.connect(nats_url)
    await provision(connection.jetstream())
    publisher = Publisher(connection)
    stream = WritesStream(connection, publisher)
    try:
        empty = await stream.behind_s()
        await stream.keep([an_opening(1)])
        await asyncio.sleep(0.05)
        behind = await stream.behind_s()
    finally:
        await publisher.close()
        await connection.close()

    assert empty == 0.0
    assert behind > 0.0


async def test_what_an_arm_may_is_declared_anew_without_a_restart(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    reloads: list[Any] = []
    monkeypatch.setattr(knowledge, "when_reloaded", reloads.append)
    command = Remember(tenant="acme", source="writer", memories=[NewMemory(content="A fact.")])
    # Only what condenses needs the bus, and that is off.
    nobody = cast(NATS, None)
    async with wired(Settings(postgres_url=SecretStr("x")), pool, nobody) as memory:
        before = await memory.knowledge.remember(command)
        shut = Settings(postgres_url=SecretStr("x"), memory_access={"writer": Access(write=None)})
        reloads[0](shut)
        after = await memory.knowledge.remember(command)

    assert before.answers[0].outcome == "created"
    assert after.answers[0].problem is not None
    assert after.answers[0].problem.code == "CAPABILITY_VIOLATION"
