"""Writing entries, and forgetting: what is promised when, and what Redis may show."""

import asyncio
import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from msgspec import Raw

from octarm.common.testing.fakes import FakeClock
from octarm.memory.usecases import writing
from octarm.memory.usecases.handing import MAX_AT_RISK, HandOver
from octarm.memory.usecases.lasting import ForgetOne
from octarm.memory.usecases.loading import LoadEpisode
from octarm.memory.usecases.reading import ShowEpisode
from octarm.memory.usecases.writing import Answer, OpenEpisodes, WriteEpisodes, Written
from octarm.models.episodes import Durability, ForgetEpisode, GetEpisode, WriteKind
from octarm.models.errors import Conflict, InvalidRequest, NotFound, OctarmError, Unavailable
from octarm.models.hot_episodes import EpisodeOpening, EpisodeWrite
from octarm.models.ids import typeid, uuid7
from tests.support.episodes import FakeEpisodes, FakeFront, FakeStream, a_task_id, an_entry

CLOCK = FakeClock()
FRESH_ID = typeid("epi", uuid7(int(CLOCK.now().timestamp() * 1000), 1))
OLD_ID = typeid("epi", uuid7(int((CLOCK.now() - timedelta(hours=2)).timestamp() * 1000), 1))


class Stage:
    def __init__(self) -> None:
        self.kept, self.front = FakeEpisodes(), FakeFront()
        self.stream = FakeStream(self.kept)
        self.begin()

    def begin(self, *, redacts: bool = False) -> None:
        """Be a memory process that has just started."""
        self.handed = HandOver(self.stream)
        self.load = LoadEpisode(self.kept, self.front, self.stream, self.handed)
        parts = self.front, self.stream, self.handed, self.load
        self.writes = WriteEpisodes(*parts, now=CLOCK.now, redacts=redacts)

    async def write(
        self, *writes: EpisodeWrite, durability: Durability = "durable"
    ) -> list[Answer]:
        return await self.writes("acme", durability, writes)

    async def seen(self, episode_id: str = FRESH_ID) -> list[Any]:
        query = GetEpisode(tenant="acme", episode_id=episode_id)
        shown = await ShowEpisode(self.front, self.load)(query)
        return list(json.loads(shown.body)["observations"])

    async def forget(self, episode_id: str = FRESH_ID) -> tuple[bool, bool]:
        use_case = ForgetOne(self.kept, self.front, self.load, self.writes.open)
        done = await use_case(ForgetEpisode(tenant="acme", episode_id=episode_id))
        return done.changed, done.degraded


def an_open(episode_id: str = FRESH_ID) -> EpisodeWrite:
    opening = EpisodeOpening(task_id=a_task_id(), arm_id="writer")
    return EpisodeWrite(episode_id, "open", "open", 1, opening=opening)


def add(
    name: str, body: Any = None, *, kind: WriteKind = "observation", to: str = FRESH_ID
) -> EpisodeWrite:
    return EpisodeWrite(to, name, kind, 0, Raw(json.dumps(body or name).encode()))


CLOSE = EpisodeWrite(FRESH_ID, "close", "close", 99)
DURABLE = Written(created=True, durable=True)


class TestWriteEpisodes:
    async def test_a_durable_write_is_in_redis_and_in_postgres(self) -> None:
        stage = Stage()

        answers = await stage.write(an_open(), add("a"), add("b"))

        assert answers == [DURABLE] * 3
        assert await stage.seen() == ["a", "b"]
        assert len(stage.kept.entries["acme", FRESH_ID]) == 2

    @pytest.mark.bad_input(25)
    async def test_secrets_are_taken_out_when_it_is_told_to(self) -> None:
        stage = Stage()
        seen = {
            "to": "ann@example.org",
            "card": ["4111 1111 1111 1111", 10**30],
            "sha256": "ab" * 32,
        }
        clean = {"to": "<EMAIL>", "card": ["<CREDIT_CARD>", 10**30], "sha256": "ab" * 32}
        await stage.write(an_open(), add("a", seen))

        stage.begin(redacts=True)
        await stage.write(add("b", seen), add("c", {"n": 1.50}))

        assert await stage.seen() == [seen, clean, {"n": 1.50}]
        bodies = [bytes(one.body) for one in stage.kept.entries["acme", FRESH_ID].values()]
        assert b"ann@example.org" not in bodies[1]
        assert bodies[2] == b'{"n": 1.5}'

    async def test_a_fast_write_does_not_wait_for_the_stream(self) -> None:
        stage = Stage()
        await stage.write(an_open())
        stage.stream.refuses = Unavailable("NATS: away")

        answers = await stage.write(add("a"), durability="fast")

        assert answers == [Written(created=True)]
        assert await stage.front.get("acme", FRESH_ID)
        stage.stream.refuses = None
        await stage.writes.drain()
        assert "a" in stage.kept.entries["acme", FRESH_ID]

    async def test_a_fast_write_that_redis_does_not_take_waits_for_the_stream(self) -> None:
        stage = Stage()
        await stage.write(an_open())
        stage.front.down = True

        answers = await stage.write(add("a"), durability="fast")

        assert answers == [Written(created=True, durable=True, degraded=True)]

    async def test_no_more_than_so_many_are_at_risk(self, monkeypatch: pytest.MonkeyPatch) -> None:
        stage = Stage()
        await stage.write(an_open())
        monkeypatch.setattr("octarm.memory.usecases.handing.MAX_AT_RISK", 0)

        answers = await stage.write(add("a"), durability="fast")

        assert MAX_AT_RISK > 0
        assert answers == [DURABLE]

    async def test_an_opening_is_never_at_risk(self) -> None:
        assert await Stage().write(an_open(), durability="fast") == [DURABLE]

    async def test_written_twice_is_written_once(self) -> None:
        stage = Stage()
        await stage.write(an_open(), add("a", 1))

        answers = await stage.write(an_open(), add("a", 2))

        assert answers == [Written(durable=True)] * 2
        assert await stage.seen() == [1]

    async def test_what_the_stream_refuses_redis_shows_no_more(self) -> None:
        stage = Stage()
        await stage.write(an_open(), add("a"))
        stage.stream.refuses = Unavailable("NATS: away")

        (answer,) = await stage.write(add("b"))

        assert isinstance(answer, Unavailable)
        assert await stage.front.get("acme", FRESH_ID) is None
        assert await stage.seen() == ["a"]

    async def test_an_opening_that_the_stream_refused_is_looked_up(self) -> None:
        stage = Stage()
        stage.stream.refuses = Unavailable("NATS: away")
        await stage.write(an_open())
        stage.stream.refuses = None

        (answer,) = await stage.write(add("a"))

        assert isinstance(answer, NotFound)

    async def test_refuses_what_is_closed(self) -> None:
        stage = Stage()
        await stage.write(an_open(), CLOSE)

        late, again = await stage.write(add("a"), CLOSE)

        assert isinstance(late, Conflict)
        assert late.code == "EPISODE_CLOSED"
        assert again == Written(durable=True)

    async def test_refuses_what_is_closed_without_redis_too(self) -> None:
        stage = Stage()
        await stage.write(an_open(), CLOSE)
        stage.front.down = True

        (late,) = await stage.write(add("a"))

        assert isinstance(late, Conflict)

    async def test_refuses_what_was_never_opened(self) -> None:
        (answer,) = await Stage().write(add("a"))

        assert isinstance(answer, NotFound)

    async def test_says_not_that_there_is_none_while_it_may_be_on_its_way(self) -> None:
        stage = Stage()
        stage.stream.held = True
        await stage.write(an_open())
        stage.begin()
        stage.front.values.clear()

        (answer,) = await stage.write(add("a"))

        assert isinstance(answer, Unavailable)

    async def test_goes_on_after_redis_was_emptied(self) -> None:
        stage = Stage()
        await stage.write(an_open(), add("a"))
        stage.front.values.clear()

        answers = await stage.write(add("b"))

        assert answers == [DURABLE]
        assert await stage.seen() == ["a", "b"]

    async def test_goes_on_after_a_restart_with_an_empty_redis(self) -> None:
        stage = Stage()
        await stage.write(an_open(), add("a"))
        stage.front.values.clear()
        stage.begin()

        answers = await stage.write(add("b"))

        assert answers == [DURABLE]
        assert list(stage.front.values) == [("acme", FRESH_ID)]
        assert await stage.seen() == ["a", "b"]

    async def test_says_that_postgres_cannot_be_asked(self) -> None:
        stage = Stage()
        stage.kept.down = True

        (answer,) = await stage.write(add("a"))

        assert isinstance(answer, Unavailable)

    async def test_an_opening_of_long_ago_is_looked_up_first(self) -> None:
        stage = Stage()
        await stage.write(an_open(OLD_ID), add("a", to=OLD_ID))
        stage.front.values.clear()
        stage.begin()

        answers = await stage.write(an_open(OLD_ID))

        assert answers == [Written(durable=True)]
        assert await stage.seen(OLD_ID) == ["a"]

    @pytest.mark.parametrize(
        "write",
        [
            EpisodeWrite(FRESH_ID, "open", "open"),
            EpisodeWrite(FRESH_ID, "x", "observation", opening=EpisodeOpening(a_task_id())),
            EpisodeWrite(FRESH_ID, "x", "extend"),
            EpisodeWrite(FRESH_ID, "x", "close", ttl_seconds=5),
            EpisodeWrite(FRESH_ID, "x", "close", body=Raw(b"1")),
            EpisodeWrite(FRESH_ID, "x", "action", body=Raw(b'"' + b"x" * 70_000 + b'"')),
            EpisodeWrite(FRESH_ID, "x", "action", body=Raw(b'"\xff"')),
            EpisodeWrite(FRESH_ID, "x", "action", body=Raw(b"[" * 500 + b"]" * 500)),
        ],
    )
    async def test_refuses_what_can_never_be_kept_and_takes_the_rest(
        self, write: EpisodeWrite
    ) -> None:
        stage = Stage()

        refused, taken = await stage.write(write, an_open())

        assert isinstance(refused, OctarmError)
        assert not refused.retryable
        assert taken == DURABLE

    async def test_an_unforeseen_error_is_an_answer(self) -> None:
        class Odd(FakeFront):
            async def write(self, writes: Sequence[Any]) -> list[Any]:
                raise ValueError("odd")

        stage = Stage()
        stage.front = Odd()
        stage.begin()

        (answer,) = await stage.write(an_open())

        assert isinstance(answer, OctarmError)


class TestForgetOne:
    async def test_leaves_nothing_and_lets_nothing_back_in(self) -> None:
        stage = Stage()
        await stage.write(an_open(), add("a"))

        assert await stage.forget() == (True, False)
        assert await stage.forget() == (False, False)

        answers = await stage.write(an_open(), add("b"))
        await stage.kept.keep([an_entry("late", episode_id=FRESH_ID)])
        assert [type(one) for one in answers] == [NotFound, NotFound]
        assert (stage.kept.rows, stage.kept.entries, stage.front.values) == ({}, {}, {})

    async def test_works_without_redis_and_says_so(self) -> None:
        stage = Stage()
        await stage.write(an_open())
        stage.front.down = True

        assert await stage.forget() == (True, True)
        (answer,) = await stage.write(add("b"))
        assert isinstance(answer, NotFound)


class TestHandOver:
    async def test_gives_up_what_can_never_be_taken(self) -> None:
        stream = FakeStream(FakeEpisodes())
        stream.refuses = InvalidRequest("never")
        handed = HandOver(stream)

        handed.put([an_entry("a")])

        assert await handed.settled(5)

    async def test_says_when_it_takes_too_long(self) -> None:
        stream = FakeStream(FakeEpisodes())
        stream.refuses = Unavailable("NATS: away")
        handed = HandOver(stream)
        handed.put([an_entry("a")])

        late = await handed.settled(0.01)
        stream.refuses = None

        assert (late, await handed.settled(10)) == (False, True)

    async def test_what_is_at_risk_for_long_leaves_no_room(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stream = FakeStream(FakeEpisodes())
        stream.refuses = Unavailable("NATS: away")
        handed = HandOver(stream)
        assert handed.has_room()
        handed.put([an_entry("a")])
        monkeypatch.setattr("octarm.memory.usecases.handing.MAX_RISK_S", 0.0)

        room = handed.has_room()
        stream.refuses = None
        await handed.settled(10)

        assert not room


def test_only_the_latest_open_episodes_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "MAX_OPEN", 2)
    known = OpenEpisodes()

    for key in ("a", "b", "a", "c"):
        known.add(("acme", key))
    known.discard(("acme", "x"))

    assert [("acme", key) in known for key in "abc"] == [True, False, True]


async def test_what_is_asked_meanwhile_is_answered_before_the_end() -> None:
    stage = Stage()
    asking = asyncio.create_task(stage.write(an_open()))
    await asyncio.sleep(0)

    await stage.writes.drain()

    assert await asking == [DURABLE]
