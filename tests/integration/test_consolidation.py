"""Episodes become memories before they are forgotten: on real Postgres."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
import pytest_asyncio

from octarm.common.storage.connections import Pool
from octarm.common.telemetry import metrics
from octarm.memory.domain.access import Access
from octarm.memory.knowledge import consolidate_on
from octarm.memory.storage.writes import PostgresWrites
from octarm.memory.usecases.condensing import AskForCondensing
from octarm.memory.usecases.consolidating import MAX_TRIES, Consolidate
from octarm.models.errors import Unavailable
from octarm.models.semantic import MemoryFilter
from tests.support.episodes import a_closing, an_entry, an_episode_id, an_opening
from tests.support.semantic import Memory, RecordingTasks, a_memory_pool

pytestmark = pytest.mark.integration
SEEN = "The build takes nine minutes"
WISH = {"remember": {"content": "Squids have ink", "tags": ["sea"]}}


@pytest_asyncio.fixture
async def pool(postgres_url: str) -> AsyncGenerator[Pool, None]:
    async with a_memory_pool(postgres_url) as pool:
        yield pool


def consolidating(pool: Pool, *, wait_s: int = 3600, **access: Access) -> Consolidate:
    return consolidate_on(pool, Memory(pool, access=access).knowledge, wait_s=wait_s)


async def written(pool: Pool, number: int, *bodies: Any, closed: bool = True) -> None:
    entries = [an_entry(str(place), body, number=number) for place, body in enumerate(bodies)]
    endings = [a_closing(number)] if closed else []
    refused = await PostgresWrites(pool).keep([an_opening(number), *entries, *endings])
    assert refused == {}


async def rows(pool: Pool, sql: str) -> list[tuple[Any, ...]]:
    async with pool.connection() as connection:
        cursor = await connection.execute(sql.encode())
        return await cursor.fetchall() if cursor.description else []


async def catch_up(consolidate: Consolidate) -> None:
    await consolidate.catch_up(asyncio.Event())


async def test_a_closed_episode_is_looked_through_once(pool: Pool) -> None:
    memory, consolidate = Memory(pool), consolidating(pool)
    await written(pool, 1, WISH, {"goal": "Write"})

    await catch_up(consolidate)
    await catch_up(consolidate)
    await rows(pool, "update memory.consolidation set done_at = null")
    await catch_up(consolidate)

    (hit,) = (await memory.search("ink")).hits
    assert (hit.memory.content, hit.memory.source) == ("Squids have ink", "writer")
    assert hit.memory.metadata["episode_id"] == an_episode_id(1)
    assert hit.memory.merged == []
    assert b"octarm_memory_consolidation_waiting 0.0" in metrics.exposition()


async def test_an_open_one_is_waited_for_and_looked_through_again(pool: Pool) -> None:
    memory = Memory(pool)
    await written(pool, 1, WISH, closed=False)
    await catch_up(consolidating(pool))
    early = await memory.contents("ink")

    await rows(pool, "update memory.consolidation set due_at = now()")
    await catch_up(consolidating(pool))
    on_time = await memory.contents("ink")
    await PostgresWrites(pool).keep([an_entry("later", {"remember": "Late ink"}), a_closing()])
    await catch_up(consolidating(pool))

    assert early == []
    assert on_time == ["Squids have ink"]
    assert sorted(await memory.contents("ink")) == ["Late ink", "Squids have ink"]


async def test_what_is_seen_in_three_episodes_is_kept(pool: Pool) -> None:
    memory = Memory(pool)
    for number in (1, 2, 3, 4):
        await written(pool, number, SEEN if number % 2 else {"text": SEEN.lower()})
        await catch_up(consolidating(pool))
        found = await memory.search("build minutes")
        assert len(found.hits) == int(number >= 3)

    assert found.hits[0].memory.metadata["rule"] == "repeated"


async def test_an_arm_that_may_not_write_makes_no_memories(pool: Pool) -> None:
    await written(pool, 1, WISH)

    await catch_up(consolidating(pool, writer=Access(write=None)))

    assert await Memory(pool).contents("ink") == []
    assert await rows(pool, "select done_at is not null from memory.consolidation") == [(True,)]


async def test_a_model_is_asked_for_each_episode_once_it_is_switched_on(pool: Pool) -> None:
    tasks = RecordingTasks()
    ask = AskForCondensing(tasks, max_tokens=900, per_hour=10, seconds=lambda: 0.0)
    consolidate = consolidate_on(pool, Memory(pool).knowledge, wait_s=3600, condense=ask)
    await written(pool, 1, WISH)
    await written(pool, 2, {"goal": "Write"})
    await written(pool, 3)
    tasks.refusal = Unavailable("nobody takes tasks")
    with pytest.raises(Unavailable):
        await catch_up(consolidate)
    first = len(tasks.submitted)
    tasks.refusal = None

    await catch_up(consolidate)
    await catch_up(consolidate)

    assert first == 1
    asked = {task.submission.context["episode_id"] for _, task in tasks.submitted}
    assert asked == {an_episode_id(1), an_episode_id(2)}
    assert len(tasks.submitted) == 3
    assert await Memory(pool).contents("ink") == ["Squids have ink"]


async def test_two_replicas_share_the_work(pool: Pool) -> None:
    for number in range(1, 7):
        await written(pool, number, {"remember": f"Ink of squid {number}"})

    await asyncio.gather(catch_up(consolidating(pool)), catch_up(consolidating(pool)))
    await catch_up(consolidating(pool))

    found = await Memory(pool).search("ink", only=MemoryFilter(sources=["writer"]), k=20)
    assert len(found.hits) == 6


async def test_an_old_episode_stays_until_it_was_looked_through(pool: Pool) -> None:
    writes = PostgresWrites(pool)
    await written(pool, 1, WISH, closed=False)
    await catch_up(consolidating(pool))
    await rows(pool, "update memory.episode set created_at = now() - interval '91 days'")

    waiting = await writes.forget(days=90, retention="normal")
    await rows(pool, "update memory.consolidation set due_at = now()")
    await rows(pool, "update memory.consolidation_cursor set seen_until = now() - interval '2 h'")
    nobody_looked = await writes.forget(days=90, retention="normal")
    await catch_up(consolidating(pool))
    looked_through = await writes.forget(days=90, retention="normal")

    assert (waiting, nobody_looked, looked_through) == (0, 0, 1)
    assert await Memory(pool).contents("ink") == ["Squids have ink"]


async def test_one_that_cannot_be_read_is_tried_again_and_then_left(pool: Pool) -> None:
    await written(pool, 1, WISH)
    await written(pool, 2, {"remember": "Good ink"})
    await rows(
        pool,
        "update memory.episode set body = '{\"spoilt\":1}'"
        f" where episode_id = '{an_episode_id(1)}'",
    )
    for _ in range(MAX_TRIES + 1):
        await catch_up(consolidating(pool))
        await rows(pool, "update memory.consolidation set due_at = now() where done_at is null")

    assert await Memory(pool).contents("ink") == ["Good ink"]
    assert sorted(await rows(pool, "select tries, done_at is null from memory.consolidation")) == [
        (0, False),
        (MAX_TRIES, False),
    ]
