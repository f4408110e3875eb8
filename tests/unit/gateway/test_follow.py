"""Waiting for a task: outcome and events."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import pytest
from starlette.types import Message

from octarm.gateway.domain.load import Load
from octarm.gateway.routes.events import EventStream, encode
from octarm.gateway.usecases.follow import Closing, FetchResult, Frame, Ping, WatchTask
from octarm.gateway.usecases.ports import PassingChunk, StoredEvent
from octarm.models.errors import NotFound
from octarm.models.ids import new_id
from octarm.models.states import TaskState
from tests.support.fleet import FakeFleet
from tests.support.wait import wait_until

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def watching(fake: FakeFleet, *, ping_s: float = 15.0) -> WatchTask:
    """The use case over a fake fleet."""
    return WatchTask(fake.fleet, asyncio.Event(), ping_s)


async def all_of(watch: WatchTask, task_id: str, *, after: int = 0) -> list[Frame] | None:
    """Every frame, or None when there is nothing to follow."""
    since = await watch.begins("default", task_id, after=after)
    if since is None:
        return None
    async with asyncio.timeout(60):
        return [frame async for frame in watch("default", task_id, after=after, since=since)]


class TestFetchResult:
    async def test_returns_as_soon_as_the_task_ends(self) -> None:
        fake = FakeFleet()
        task_id = fake.tasks.add(state=TaskState.RUNNING)
        fetch = asyncio.create_task(
            FetchResult(fake.fleet, asyncio.Event())("default", task_id, wait_s=30)
        )
        await asyncio.sleep(0)
        fake.tasks.move(task_id, TaskState.COMPLETED)

        async def hinted() -> bool:
            fake.events.hint()
            return fetch.done()

        await wait_until(hinted)

        assert fetch.result().state is TaskState.COMPLETED

    async def test_finds_the_end_without_a_hint(self) -> None:
        fake = FakeFleet()
        task_id = fake.tasks.add(state=TaskState.RUNNING)
        fetch = asyncio.create_task(
            FetchResult(fake.fleet, asyncio.Event())("default", task_id, wait_s=30)
        )
        await asyncio.sleep(0.01)
        fake.tasks.move(task_id, TaskState.FAILED)

        async with asyncio.timeout(60):
            assert (await fetch).state is TaskState.FAILED

    async def test_gives_up_early_when_we_close(self) -> None:
        fake = FakeFleet()
        closing = asyncio.Event()
        task_id = fake.tasks.add(state=TaskState.RUNNING)
        fetch = asyncio.create_task(FetchResult(fake.fleet, closing)("default", task_id, wait_s=60))
        await asyncio.sleep(0.01)
        closing.set()

        async with asyncio.timeout(60):
            assert (await fetch).state is TaskState.RUNNING

    async def test_knows_no_foreign_task(self) -> None:
        fetch = FetchResult(FakeFleet().fleet, asyncio.Event())

        with pytest.raises(NotFound):
            await fetch("default", new_id("tsk"), wait_s=60)


class TestWatchTask:
    async def test_follows_from_the_first_to_the_terminal_event(self) -> None:
        fake = FakeFleet()
        task_id = fake.tasks.add(state=TaskState.RUNNING)
        for verb in ("accepted", "ready", "completed", "late_result"):
            fake.events.say(verb)

        frames = await all_of(watching(fake), task_id)

        assert [frame.verb for frame in frames or [] if isinstance(frame, StoredEvent)] == [
            "accepted",
            "ready",
            "completed",
        ]
        assert fake.events.following == 0

    async def test_resumes_after_the_last_event_seen(self) -> None:
        fake = FakeFleet()
        task_id = fake.tasks.add(state=TaskState.RUNNING)
        for verb in ("accepted", "ready", "completed"):
            fake.events.say(verb)

        frames = await all_of(watching(fake), task_id, after=2)

        assert frames == [StoredEvent(3, "completed", b"{}")]

    async def test_waits_for_an_end_that_is_in_the_ledger_and_not_yet_told(self) -> None:
        fake = FakeFleet()
        task_id = fake.tasks.add(state=TaskState.COMPLETED)
        fake.events.say("started")

        watching_it = asyncio.create_task(all_of(watching(fake), task_id, after=1))
        await wait_until(lambda: fake.events.following)
        fake.events.say("completed")

        assert await watching_it == [StoredEvent(2, "completed", b"{}")]

    async def test_has_nothing_to_tell_to_one_who_has_seen_the_end(self) -> None:
        fake = FakeFleet()
        task_id = fake.tasks.add(state=TaskState.COMPLETED)
        for verb in ("started", "completed"):
            fake.events.say(verb)

        assert await all_of(watching(fake), task_id, after=1) == [
            StoredEvent(2, "completed", b"{}")
        ]
        assert await all_of(watching(fake), task_id, after=2) is None

    @pytest.mark.parametrize("kept", [None, timedelta(hours=1)])
    async def test_has_nothing_to_tell_when_the_history_is_gone(
        self, kept: timedelta | None
    ) -> None:
        fake = FakeFleet()
        task_id = fake.tasks.add(state=TaskState.FAILED)
        ended = datetime.now(UTC) - timedelta(days=9)
        fake.tasks.change(task_id, terminal_at=ended)
        fake.events.kept = None if kept is None else ended + kept

        assert await all_of(watching(fake), task_id) is None

    async def test_tells_of_an_old_task_while_its_history_is_kept(self) -> None:
        fake = FakeFleet()
        task_id = fake.tasks.add(state=TaskState.FAILED)
        ended = datetime.now(UTC) - timedelta(days=5)
        fake.tasks.change(task_id, terminal_at=ended)
        fake.events.kept = ended - timedelta(hours=1)
        fake.events.say("failed")

        assert await all_of(watching(fake), task_id) == [StoredEvent(1, "failed", b"{}")]

    async def test_lets_chunks_pass_and_pings_in_silence(self) -> None:
        fake = FakeFleet()
        task_id = fake.tasks.add(state=TaskState.RUNNING)
        frames: list[Frame] = []
        async with aclosing(
            watching(fake, ping_s=0.01)("default", task_id, after=0, since=NOON)
        ) as coming:
            frames.append(await anext(coming))
            fake.events.chunk(b'{"text":"a"}')
            frames.append(await anext(coming))

        assert frames == [Ping(), PassingChunk(b'{"text":"a"}')]
        assert fake.events.following == 0

    async def test_says_so_when_we_close_first(self) -> None:
        fake = FakeFleet()
        closing = asyncio.Event()
        closing.set()
        task_id = fake.tasks.add(state=TaskState.RUNNING)
        frames = WatchTask(fake.fleet, closing)("default", task_id, after=0, since=NOON)

        assert [frame async for frame in frames] == [Closing()]


class TestEncoding:
    def test_an_event_carries_its_sequence_and_stays_on_one_line(self) -> None:
        assert encode(StoredEvent(7, "completed", b'{\r\n"a":\n1}')) == (
            b'id: 7\nevent: task.completed\ndata: {  "a": 1}\n\n'
        )

    def test_a_chunk_has_no_id(self) -> None:
        assert encode(PassingChunk(b'{"seq":1}')) == b'event: chunk\ndata: {"seq":1}\n\n'

    def test_pings_and_closing_are_comments(self) -> None:
        assert encode(Ping()).startswith(b":")
        assert encode(Closing()).startswith(b":")


class TestEventStream:
    async def test_is_let_go_of_by_a_reader_that_takes_nothing(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("octarm.gateway.routes.events.SEND_TIMEOUT_S", 0.01)
        closed = asyncio.Event()

        async def endless() -> AsyncGenerator[bytes, None]:
            try:
                while True:
                    yield b"data: x\n\n"
            finally:
                closed.set()

        async def stuck(message: Message) -> None:
            if message["type"] == "http.response.body":
                await asyncio.Event().wait()

        async def receive() -> Message:
            await asyncio.Event().wait()
            raise AssertionError

        async with asyncio.timeout(60):
            scope = {"type": "http", "asgi": {"spec_version": "2.3"}}
            await EventStream(endless(), Load())(scope, receive, stuck)

        assert closed.is_set()
