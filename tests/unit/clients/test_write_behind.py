"""Fast entries: taken at once, sent together, bounded, and never lost without a word."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any, cast

import pytest
from pydantic import JsonValue

from octarm.clients.episodes import EpisodeWriter
from octarm.clients.memory import MemoryClient
from octarm.clients.write_behind import MAX_ENTRIES
from octarm.models.episodes import EpisodeFound, EpisodesFound, EpisodicMemory, FindEpisodes
from octarm.models.errors import Conflict, InvalidRequest, NotFound, OctarmError, Unavailable
from octarm.models.ids import new_id
from octarm.sdk.episodes import OpenEpisode
from octarm.sdk.recall import Recall
from tests.support.wait import wait_until


class FakeService:
    """Answers requests while it is open, and notes what came in them."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.refusal: OctarmError | None = None

    async def request(self, body: bytes) -> bytes:
        request = json.loads(body)
        self.requests.append(request)
        await self.open.wait()
        if self.refusal is not None:
            return b'{"problem":%b}' % self.refusal.problem().model_dump_json().encode()
        return json.dumps(
            {"ok": {"answers": [{"created": True}] * len(request["writes"])}}
        ).encode()

    def bodies(self) -> list[list[Any]]:
        return [[write["body"] for write in request["writes"]] for request in self.requests]


class FakeReads:
    """Says what the service had when it was asked."""

    def __init__(self, service: FakeService) -> None:
        self._service = service

    async def get_episode(self, tenant: str, episode_id: str) -> EpisodeFound:
        return cast(EpisodeFound, self._service.bodies())

    async def find_episodes(self, query: FindEpisodes) -> EpisodesFound:
        found = [cast(EpisodicMemory, one) for one in self._service.bodies()]
        return EpisodesFound.model_construct(episodes=found)

    async def forget_episode(self, tenant: str, episode_id: str) -> Any:
        return type("Forgotten", (), {"changed": True})


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def memory(service: FakeService) -> Recall:
    reads = cast(MemoryClient, FakeReads(service))
    return Recall(reads, "acme", "writer", EpisodeWriter(service.request, "acme"), new_id("tsk"))


@pytest.fixture
def episode(memory: Recall) -> OpenEpisode:
    return memory.resume(new_id("epi"), durability="fast")


async def one_more(
    service: FakeService, episode: OpenEpisode, taken: Sequence[object], late: str
) -> "asyncio.Task[object]":
    """Have entries taken that nobody answers yet, and begin one more."""
    service.open.clear()
    for body in taken:
        await episode.observe(cast(JsonValue, body))
    begun = asyncio.create_task(episode.observe(late))
    await wait_until(lambda: service.requests)
    return cast("asyncio.Task[object]", begun)


class TestFastEntries:
    async def test_are_taken_before_anybody_answers_and_travel_together(
        self, service: FakeService, episode: OpenEpisode
    ) -> None:
        service.open.clear()

        first = await episode.observe(0)
        await wait_until(lambda: service.requests)
        for number in range(1, 40):
            await episode.observe(number)
        underway = service.bodies()
        service.open.set()
        await episode.flush()

        assert (first.waiting, first.durable) == (True, False)
        assert underway == [[0]]
        assert service.bodies() == [[0], list(range(1, 40))]

    async def test_wait_once_the_window_is_full(
        self, service: FakeService, episode: OpenEpisode
    ) -> None:
        late = await one_more(service, episode, range(MAX_ENTRIES), "late")
        full = not late.done()
        service.open.set()
        await late
        await episode.flush()

        assert full
        assert sum(map(len, service.bodies())) == MAX_ENTRIES + 1

    async def test_wait_once_a_mebibyte_is_on_its_way(
        self, service: FakeService, episode: OpenEpisode
    ) -> None:
        late = await one_more(service, episode, ["x" * 60_000] * 17, "x" * 60_000)
        full = not late.done()
        service.open.set()
        await late
        await episode.flush()

        assert full

    async def test_one_that_is_cancelled_in_front_of_a_full_window_is_not_taken(
        self, service: FakeService, episode: OpenEpisode
    ) -> None:
        late = await one_more(service, episode, range(MAX_ENTRIES), "late")

        late.cancel()
        await asyncio.gather(late, return_exceptions=True)
        service.open.set()
        await episode.flush()

        assert sum(map(len, service.bodies())) == MAX_ENTRIES

    async def test_are_there_before_the_same_attempt_reads(
        self, service: FakeService, memory: Recall, episode: OpenEpisode
    ) -> None:
        await episode.observe("seen")

        shown: object = await memory.episode(episode.episode_id)
        await episode.observe("again")
        listed: list[Any] = list(await memory.recent())
        await episode.observe("more")
        of_task: list[Any] = list(await memory.of_task(memory.task_id))

        assert shown == [["seen"]]
        assert listed == [["seen"], ["again"]]
        assert of_task == [["seen"], ["again"], ["more"]]

    async def test_go_before_what_is_durable_and_before_the_end(
        self, service: FakeService, episode: OpenEpisode
    ) -> None:
        for number, then in enumerate(
            (
                lambda: episode.observe("kept", durability="durable"),
                lambda: episode.outcome("done"),
                episode.close,
            )
        ):
            await episode.observe(number)
            await then()

        kinds = [[write["kind"] for write in one["writes"]] for one in service.requests]
        assert kinds == [
            *(["observation"], ["observation"]),
            *(["observation"], ["outcome"]),
            *(["observation"], ["close"]),
        ]
        assert [one["durability"] for one in service.requests] == [
            *("fast", "durable", "fast", "fast", "fast", "durable")
        ]

    async def test_a_refusal_is_told_once_with_the_next_call(
        self, service: FakeService, memory: Recall, episode: OpenEpisode
    ) -> None:
        service.refusal = Conflict("the episode is closed", code="EPISODE_CLOSED")
        await episode.observe("one")
        await episode.observe("two")
        await wait_until(lambda: service.requests)

        with pytest.raises(
            Conflict, match=r"2 fast writes to epi_.* the episode is closed"
        ) as told:
            await episode.flush()
        service.refusal = None
        await episode.observe("three")
        await memory.behind.flushed()

        assert told.value.code == "EPISODE_CLOSED"
        assert service.bodies()[-1] == ["three"]
        assert memory.behind.windows == set()

    async def test_a_refusal_stops_the_next_entry_which_may_come_again(
        self, service: FakeService, episode: OpenEpisode
    ) -> None:
        service.refusal = NotFound("no such episode", code="EPISODE_NOT_FOUND")
        await episode.observe("one")
        with pytest.raises(NotFound):
            await episode.flush()
        await episode.observe("two")
        await wait_until(lambda: len(service.requests) == 2)

        with pytest.raises(NotFound):
            await episode.outcome("done")
        service.refusal = None
        await episode.outcome("done")

        assert service.bodies() == [["one"], ["two"], ["done"]]

    async def test_what_is_forgotten_needs_not_be_written(
        self, service: FakeService, memory: Recall, episode: OpenEpisode
    ) -> None:
        service.refusal = NotFound("no such episode")
        await episode.observe("one")

        assert await memory.forget(episode.episode_id)
        assert memory.behind.windows == set()

    async def test_a_service_that_comes_back_gets_them(
        self, service: FakeService, episode: OpenEpisode
    ) -> None:
        service.refusal = Unavailable("nobody answers")
        await episode.observe("one")
        await wait_until(lambda: len(service.requests) > 1)
        service.refusal = None
        await episode.flush()

        assert all(bodies == ["one"] for bodies in service.bodies())

    async def test_a_request_that_breaks_off_is_told(self, memory: Recall) -> None:
        begun = asyncio.Event()

        async def request(body: bytes) -> bytes:
            begun.set()
            raise asyncio.CancelledError

        writer = EpisodeWriter(request, "acme")
        recall = Recall(memory.client, "acme", "writer", writer, memory.task_id)
        await recall.resume(new_id("epi"), durability="fast").observe("one")
        await begun.wait()

        with pytest.raises(Unavailable, match="broke off"):
            await recall.behind.flushed()
        assert recall.behind.windows == set()

    async def test_one_that_cannot_be_sent_is_refused_at_once(
        self, memory: Recall, episode: OpenEpisode
    ) -> None:
        with pytest.raises(InvalidRequest):
            await episode.observe("x", entry_id="no spaces")

        assert memory.behind.windows == set()
