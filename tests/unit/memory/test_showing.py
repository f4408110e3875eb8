"""Showing one episode: where it comes from, and what becomes of Redis by that."""

import asyncio
import json

import pytest

from octarm.memory.usecases.flights import Flights
from octarm.memory.usecases.ports import Kept
from octarm.memory.usecases.reading import ShowEpisode, Shown
from octarm.models.episodes import GetEpisode
from octarm.models.errors import NotFound, Unavailable
from tests.support.episodes import (
    FakeEpisodes,
    FakeFront,
    FakeStream,
    a_loader,
    an_entry,
    an_episode,
    an_episode_id,
    an_opening,
    put_in,
)

QUERY = GetEpisode(tenant="acme", episode_id=an_episode_id(1))


async def show(kept: FakeEpisodes, front: FakeFront, stream: FakeStream | None = None) -> Shown:
    return await ShowEpisode(front, a_loader(kept, front, stream))(QUERY)


class TestShowEpisode:
    async def test_comes_from_redis_when_it_is_there(self) -> None:
        kept, front = FakeEpisodes(), FakeFront()
        await put_in(front, an_episode(1))
        kept.down = True

        found = await show(kept, front)

        assert (found.source, found.degraded, found.complete) == ("redis", False, True)

    async def test_comes_from_postgres_and_is_put_in_redis(self) -> None:
        kept, front = FakeEpisodes(), FakeFront()
        await kept.keep([an_opening(1), an_entry("a", "seen")])

        first = await show(kept, front)
        second = await show(kept, front)

        assert (first.source, first.degraded, second.source) == ("postgres", False, "redis")
        assert json.loads(first.body) == json.loads(second.body)
        assert json.loads(first.body)["observations"] == ["seen"]

    async def test_says_that_redis_does_not_answer(self) -> None:
        kept, front = FakeEpisodes(), FakeFront()
        await kept.add([an_episode(1)])
        front.down = True

        found = await show(kept, front)

        assert (found.source, found.degraded) == ("postgres", True)

    @pytest.mark.bad_input(28)
    async def test_takes_a_spoilt_value_for_a_miss_and_mends_it(self) -> None:
        kept, front = FakeEpisodes(), FakeFront()
        await kept.add([an_episode(1)])
        await put_in(front, an_episode(1))
        front.spoilt.add(("acme", an_episode_id(1)))

        assert (await show(kept, front)).source == "postgres"
        assert (await show(kept, front)).source == "redis"

    async def test_says_when_it_may_lack_what_is_on_its_way_and_leaves_redis_alone(self) -> None:
        kept, front = FakeEpisodes(), FakeFront()
        await kept.add([an_episode(1)])
        stream = FakeStream(kept)
        stream.held = True
        await stream.keep([an_opening(2)])

        found = await show(kept, front, stream)

        assert (found.source, found.complete) == ("postgres", False)
        assert front.values == {}

    async def test_says_not_that_there_is_none_while_it_may_be_on_its_way(self) -> None:
        kept = FakeEpisodes()
        stream = FakeStream(kept)
        stream.held = True
        await stream.keep([an_opening(1)])

        with pytest.raises(Unavailable):
            await show(kept, FakeFront(), stream)

    async def test_an_unknown_one_is_not_found(self) -> None:
        with pytest.raises(NotFound) as unknown:
            await show(FakeEpisodes(), FakeFront())

        assert unknown.value.code == "EPISODE_NOT_FOUND"

    async def test_a_forgotten_one_is_not_found_without_a_look(self) -> None:
        kept, front = FakeEpisodes(), FakeFront()
        await front.bury("acme", an_episode_id(1))

        with pytest.raises(NotFound):
            await show(kept, front)
        assert kept.looks == 0

    async def test_redis_that_goes_away_while_it_is_filled_is_told(self) -> None:
        kept, front = FakeEpisodes(), FakeFront()
        await kept.add([an_episode(1)])

        class Leaving(FakeEpisodes):
            async def get(self, tenant: str, episode_id: str) -> Kept | None:
                front.down = True
                return await kept.get(tenant, episode_id)

        assert (await show(Leaving(), front)).degraded

    async def test_without_a_wait_only_what_redis_has_is_told(self) -> None:
        kept, front = FakeEpisodes(), FakeFront()
        await kept.add([an_episode(1)])
        shows = ShowEpisode(front, a_loader(kept, front))
        told: list[Shown | None] = []

        assert shows.begin(QUERY, told.append)
        await put_in(front, an_episode(1))
        assert shows.begin(QUERY, told.append)
        await front.bury("acme", an_episode_id(1))
        assert shows.begin(QUERY, told.append)
        front.down = True
        assert not shows.begin(QUERY, told.append)

        absent, hot, forgotten = told
        assert (absent, forgotten, kept.looks) == (None, None, 0)
        assert hot is not None
        assert (json.loads(hot.body)["episode_id"], hot.source) == (an_episode_id(1), "redis")

    async def test_a_hundred_readers_look_into_postgres_together(self) -> None:
        kept, front = FakeEpisodes(), FakeFront()
        await kept.add([an_episode(1)])
        front.spoilt.add(("acme", an_episode_id(1)))
        shows = ShowEpisode(front, a_loader(kept, front))

        found = await asyncio.gather(*(shows(QUERY) for _ in range(100)))

        assert {one.source for one in found} == {"postgres"}
        assert kept.looks <= 2


class TestFlights:
    async def test_who_comes_during_a_look_gets_the_next_one(self) -> None:
        flights: Flights[str, int] = Flights()
        looks, began, go = 0, asyncio.Event(), asyncio.Event()

        async def look() -> int:
            nonlocal looks
            looks += 1
            mine = looks
            began.set()
            await go.wait()
            return mine

        first = asyncio.create_task(flights.join("a", look))
        await began.wait()
        late = [asyncio.create_task(flights.join("a", look)) for _ in range(3)]
        go.set()

        assert await first == 1
        assert await asyncio.gather(*late) == [2, 2, 2]

    async def test_who_stops_waiting_does_not_stop_the_look(self) -> None:
        flights: Flights[str, str] = Flights()
        began, go = asyncio.Event(), asyncio.Event()

        async def look() -> str:
            began.set()
            await go.wait()
            return "found"

        impatient = asyncio.create_task(flights.join("a", look))
        patient = asyncio.create_task(flights.join("a", look))
        await began.wait()
        impatient.cancel()
        go.set()

        assert await patient == "found"

    async def test_a_look_that_fails_fails_for_all_and_is_made_again(self) -> None:
        flights: Flights[str, str] = Flights()

        async def fails() -> str:
            raise Unavailable("Postgres: down")

        async def works() -> str:
            return "found"

        failed = await asyncio.gather(
            *(flights.join("a", fails) for _ in range(2)), return_exceptions=True
        )

        assert [type(one) for one in failed] == [Unavailable, Unavailable]
        assert await flights.join("a", works) == "found"
