"""Episodes as arms write them: SDK, bus, Redis, stream and Postgres, all real."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from datetime import timedelta
from typing import cast

import psycopg
import pytest
import pytest_asyncio
from nats.aio.client import Client as NATS
from pydantic import SecretStr

from octarm.clients.episodes import Writers
from octarm.clients.memory import MemoryClient
from octarm.clients.write_behind import MAX_ENTRIES
from octarm.common.bus.publisher import Outgoing, Publisher
from octarm.common.bus.requests import ask_raw
from octarm.common.storage import open_redis
from octarm.memory.domain.entries import encode
from octarm.memory.routes.episodes import MAX_IN_HAND, EpisodeResponder
from octarm.memory.settings import Settings
from octarm.memory.usecases.reading import ShowEpisode, Shown
from octarm.memory.usecases.writing import WriteEpisodes as Writing
from octarm.models.episodes import EpisodeWrite, FindEpisodes, GetEpisode, WriteEpisodes
from octarm.models.errors import (
    Conflict,
    InvalidRequest,
    NotFound,
    TimedOut,
    Unavailable,
    Unparsable,
)
from octarm.models.hot_episodes import KeepWrites
from octarm.models.ids import new_id
from octarm.models.subjects import DLQ, GET_EPISODE, KEEP_WRITES
from octarm.sdk.recall import Recall
from tests.support.diarist import a_diarist
from tests.support.episodes import an_entry
from tests.support.memory_service import a_memory, a_provisioned_bus, drained, memory_settings
from tests.support.wait import PATIENCE_S, wait_until

pytestmark = pytest.mark.integration


@pytest_asyncio.fixture
async def bus(nats_url: str) -> AsyncGenerator[NATS, None]:
    async with a_provisioned_bus(nats_url) as bus:
        yield bus


@pytest.fixture
def settings(nats_url: str, postgres_url: str, redis_url: str) -> Settings:
    return memory_settings(nats_url, postgres_url, redis_url)


def memory_of(bus: NATS, tenant: str = "acme", arm_id: str = "writer") -> Recall:
    client = MemoryClient(bus, timeout_s=PATIENCE_S)
    return Recall(client, tenant, arm_id, Writers(bus).of(tenant), new_id("tsk"))


def rows(url: str, table: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute(f"select count(*) from memory.{table}".encode()).fetchone()
    assert row is not None
    return int(row[0])


class HeldShow:
    """Has the answers of reads without a task wait for the test; those with one come at once."""

    def __init__(self) -> None:
        self.tells: list[Callable[[Shown | None], None]] = []

    def begin(self, _: GetEpisode, tell: Callable[[Shown | None], None]) -> bool:
        self.tells.append(tell)
        return True

    async def __call__(self, _: GetEpisode) -> Shown:
        return Shown(b"{}", "postgres")


class TestEpisodes:
    @pytest.mark.bad_input(25)
    async def test_no_store_gets_a_secret_when_memory_is_told_to_take_them_out(
        self, bus: NATS, settings: Settings, redis_url: str, postgres_url: str
    ) -> None:
        async with a_memory(settings.model_copy(update={"redact_episodes": True}), bus):
            memory = memory_of(bus)
            episode = await memory.open()
            await episode.observe({"to": "ann@example.org"})
            found = await memory.episode(episode.episode_id)
            await wait_until(lambda: drained(bus))
            async with open_redis(redis_url, timeout_s=30) as redis:
                key = f"octarm:memory:episode:acme:{episode.episode_id}"
                cached = await redis.hvals(key)
        with psycopg.connect(postgres_url) as connection:
            kept = connection.execute("select body::text from memory.episode_entry").fetchall()

        assert found.episode.observations == [{"to": "<EMAIL>"}]
        assert kept == [('{"to":"<EMAIL>"}',)]
        assert "<EMAIL>" in str(cached)
        assert "ann@" not in str(cached)

    async def test_an_arm_writes_one_while_it_works(self, bus: NATS, settings: Settings) -> None:
        memory = memory_of(bus)
        async with a_memory(settings, bus):
            episode = await memory.open(tags=["docs"], retention="long")
            await asyncio.gather(*(episode.observe({"line": n}) for n in range(20)))
            await episode.act({"tool": "read"}, durability="fast")
            once = await episode.outcome("done", entry_id="end")
            twice = await episode.outcome("done again", entry_id="end")
            await episode.close()
            with pytest.raises(Conflict):
                await episode.observe("too late")
            await episode.extend(7200)
            hot = await memory.episode(episode.episode_id)
            listed = await memory.recent(5, tag="docs")
            begun = hot.episode.created_at
            later = await memory.recent(5, tag="docs", since=begun)
            earlier = await memory.recent(5, tag="docs", until=begun)

        assert (once.created, once.durable, twice.created) == (True, True, False)
        assert (hot.source, hot.degraded, hot.complete) == ("redis", False, True)
        assert hot.episode.observations == [{"line": n} for n in range(20)]
        assert (hot.episode.actions, hot.episode.outcomes) == ([{"tool": "read"}], ["done"])
        assert (hot.episode.closed, hot.episode.ttl_seconds) == (True, 7200)
        assert listed == later == [hot.episode]
        assert earlier == []

    async def test_what_redis_lost_comes_from_postgres_and_is_put_back(
        self, bus: NATS, settings: Settings, redis_url: str
    ) -> None:
        memory = memory_of(bus)
        async with a_memory(settings, bus), open_redis(redis_url) as redis:
            episode = await memory.open()
            await episode.observe("before")
            await redis.flushall()
            await episode.observe("after")
            await wait_until(lambda: drained(bus), 30)
            first = await memory.episode(episode.episode_id)
            second = await memory.episode(episode.episode_id)
            await episode.observe("then")
            third = await memory.episode(episode.episode_id)

        assert [first.source, second.source, third.source] == ["postgres", "redis", "redis"]
        assert first.complete
        assert first.episode.observations == ["before", "after"]
        assert third.episode.observations == ["before", "after", "then"]

    async def test_fast_entries_of_a_closed_episode_are_told_with_the_next_call(
        self, bus: NATS, settings: Settings
    ) -> None:
        memory = memory_of(bus)
        async with a_memory(settings, bus):
            episode = await memory.open(durability="fast")
            taken = await episode.observe("before")
            await episode.close()
            late = await episode.observe("after")
            with pytest.raises(Conflict) as told:
                await memory.episode(episode.episode_id)
            found = await memory.episode(episode.episode_id)

        assert (taken.waiting, late.waiting, told.value.code) == (True, True, "EPISODE_CLOSED")
        assert found.episode.observations == ["before"]

    async def test_fast_entries_outlive_an_absence_of_the_service_or_are_told(
        self, bus: NATS, settings: Settings
    ) -> None:
        memory = memory_of(bus)
        async with a_memory(settings, bus):
            episode = await memory.open(durability="fast")
        taken = [await episode.observe(n, entry_id=f"e{n}") for n in range(5)]
        async with a_memory(settings, bus):
            try:
                await episode.flush()
            except (Unavailable, TimedOut):
                # The machine is so slow that the service took longer to start than the SDK waits.
                for n in range(5):
                    await episode.observe(n, entry_id=f"e{n}")
            found = await memory.episode(episode.episode_id)

        assert all(one.waiting for one in taken)
        assert found.episode.observations == list(range(5))

    async def test_an_arm_that_is_killed_loses_at_most_its_window(
        self, bus: NATS, settings: Settings, nats_url: str
    ) -> None:
        async with a_memory(settings, bus), a_diarist(nats_url) as diarist:
            acked = await diarist.killed_after(120)
            found = await memory_of(bus).episode(diarist.episode_id)

        seen = set(map(str, found.episode.observations))
        last_durable = max(n for n, waiting in acked.items() if not waiting)
        lost = [n for n in acked if str(n) not in seen]
        assert all(n > last_durable for n in lost)
        assert len(lost) <= MAX_ENTRIES

    async def test_a_new_process_trusts_nothing_that_it_did_not_see_written(
        self, bus: NATS, settings: Settings
    ) -> None:
        memory = memory_of(bus)
        async with a_memory(settings, bus):
            episode = await memory.open()
            await episode.observe("before", durability="fast")
        async with a_memory(settings, bus):
            first = await memory.episode(episode.episode_id)
            await episode.observe("after")
            second = await memory.episode(episode.episode_id)

        assert [first.source, second.source] == ["postgres", "redis"]
        assert second.episode.observations == ["before", "after"]

    async def test_goes_on_without_redis(
        self, bus: NATS, settings: Settings, unused_tcp_port: int
    ) -> None:
        memory = memory_of(bus)
        nowhere = SecretStr(f"redis://127.0.0.1:{unused_tcp_port}/0")
        async with a_memory(settings.model_copy(update={"redis_url": nowhere}), bus):
            episode = await memory.open()
            fast = await episode.outcome("seen", durability="fast")
            await wait_until(lambda: drained(bus), 30)
            found = await memory.episode(episode.episode_id)
            await episode.close()
            with pytest.raises(Conflict):
                await episode.observe("too late")

        assert (fast.durable, fast.degraded) == (True, True)
        assert (found.source, found.degraded, found.complete) == ("postgres", True, True)
        assert found.episode.outcomes == ["seen"]

    async def test_what_was_forgotten_does_not_come_back(
        self, bus: NATS, settings: Settings, redis_url: str
    ) -> None:
        memory, other = memory_of(bus), memory_of(bus, "other")
        url = settings.postgres_url.get_secret_value()
        async with a_memory(settings, bus), open_redis(redis_url) as redis:
            episode = await memory.open()
            await episode.observe("secret")
            strange = await other.forget(episode.episode_id)
            there = await memory.episode(episode.episode_id)
            gone = [await memory.forget(episode.episode_id) for _ in range(2)]
            late = an_entry("late", episode_id=episode.episode_id)
            publisher = Publisher(bus)
            await publisher.publish(Outgoing(KEEP_WRITES.at(), encode(KeepWrites([late])), "late"))
            await publisher.close()
            with pytest.raises(NotFound):
                await episode.observe("more")
            with pytest.raises(NotFound):
                await memory.episode(episode.episode_id)
            await wait_until(lambda: drained(bus), 20)
            await redis.flushall()
            with pytest.raises(NotFound):
                await memory.episode(episode.episode_id)

        assert (strange, there.episode.observations, gone) == (False, ["secret"], [True, False])
        assert (rows(url, "episode"), rows(url, "episode_entry")) == (0, 0)

    async def test_lists_by_task_arm_tag_and_time(self, bus: NATS, settings: Settings) -> None:
        memory = memory_of(bus)
        client = MemoryClient(bus, timeout_s=PATIENCE_S)
        async with a_memory(settings, bus):
            first = await memory.open(tags=["a", "b"])
            second = await memory.open(tags=["b"])
            await memory_of(bus, arm_id="reader").open(tags=["c"])
            created = (await memory.episode(second.episode_id)).episode.created_at

            async def ids(**filters: object) -> list[str]:
                query = FindEpisodes.model_validate({"tenant": "acme", **filters})
                return [one.episode_id for one in (await client.find_episodes(query)).episodes]

            by_tag, by_task = await ids(tag="a"), await ids(task_id=memory.task_id)
            by_arm = await ids(arm_id="writer", tag="b")
            by_time = await ids(until=created, arm_id="writer")
            none = await ids(since=created + timedelta(hours=1))
            page = await client.find_episodes(FindEpisodes(tenant="acme", tag="b", limit=1))
            for forged in (
                FindEpisodes(tenant="other", tag="b", cursor=page.cursor),
                FindEpisodes(tenant="acme", tag="a", cursor=page.cursor),
                FindEpisodes(tenant="acme", tag="b", cursor="-1"),
            ):
                with pytest.raises(Unparsable):
                    await client.find_episodes(forged)

        both = [second.episode_id, first.episode_id]
        assert (by_tag, by_task, by_arm) == (both[1:], sorted(both)[::-1], sorted(both)[::-1])
        assert (by_time, none) == (both[1:], [])

    async def test_reads_in_hand_are_bounded_and_answered_before_it_stops(self, bus: NATS) -> None:
        show = HeldShow()
        responder = EpisodeResponder(bus, cast(Writing, None), cast(ShowEpisode, show))
        await responder.start()
        body = GetEpisode(tenant="acme", episode_id=new_id("epi")).model_dump_json().encode()

        def ask() -> "asyncio.Task[bytes]":
            question = ask_raw(bus, GET_EPISODE.at(), body, timeout_s=PATIENCE_S)
            return asyncio.create_task(question)

        asked = [ask() for _ in range(MAX_IN_HAND)]
        await wait_until(lambda: len(show.tells) == MAX_IN_HAND)
        refused = await ask()
        stopping = asyncio.create_task(responder.stop())
        for tell in show.tells[1:]:
            tell(Shown(b"{}", "redis"))
        answers = set(await asyncio.gather(*asked[1:]))
        stopped_early = stopping.done()
        show.tells[0](None)
        by_task = await asked[0]
        await stopping

        assert b'"QUEUE_FULL"' in refused
        assert answers == {
            b'{"ok":{"episode":{},"source":"redis","degraded":false,"complete":true}}'
        }
        assert (stopped_early, b'"postgres"' in by_task) == (False, True)

    async def test_what_is_no_write_is_refused_or_buried_and_the_rest_goes_on(
        self, bus: NATS, settings: Settings
    ) -> None:
        memory, client = memory_of(bus), MemoryClient(bus, timeout_s=PATIENCE_S)
        async with a_memory(settings, bus):
            episode = await memory.open()
            with pytest.raises(InvalidRequest):
                await episode.observe("x", entry_id="no spaces")
            with pytest.raises(InvalidRequest):
                await memory.open(tags=["NO TAG"])
            with pytest.raises(InvalidRequest):
                await episode.observe(float("nan"))
            bad = EpisodeWrite(episode_id=episode.episode_id, entry_id="x", kind="extend")
            answers = await client.write_episodes(WriteEpisodes(tenant="acme", writes=[bad]))
            await bus.jetstream().publish(KEEP_WRITES.at(), b"\xff")
            await episode.observe("seen")
            await wait_until(lambda: drained(bus), 20)
            found = await memory.episode(episode.episode_id)

        (answer,) = answers.answers
        assert answer.problem is not None
        assert answer.problem.code == "INVALID_REQUEST"
        assert found.episode.observations == ["seen"]
        assert (await bus.jetstream().stream_info(DLQ)).state.messages == 1
