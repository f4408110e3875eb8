"""Remembering, showing and listing, with Postgres and Redis as fakes."""

import pytest

from octarm.memory.domain.paging import Question, cursor_after, read_cursor
from octarm.memory.usecases.reading import ListEpisodes, ShowEpisode
from octarm.memory.usecases.remembering import RememberTasks
from octarm.models.episodes import EpisodeFound, EpisodesFound, FindEpisodes, GetEpisode
from octarm.models.errors import NotFound, Unavailable, Unparsable
from tests.support.episodes import (
    FakeEpisodes,
    FakeFront,
    a_result,
    a_task_id,
    an_episode,
    an_episode_id,
)

QUERY = GetEpisode(tenant="acme", episode_id=an_episode_id(1))


class TestRememberTasks:
    async def test_keeps_them_in_both(self) -> None:
        kept, front = FakeEpisodes(), FakeFront()

        refused = await RememberTasks(kept, front)([an_episode(1), an_episode(2)])

        assert refused == {}
        assert len(kept.rows) == len(front.values) == 2

    async def test_goes_on_without_redis(self) -> None:
        kept, front = FakeEpisodes(), FakeFront()
        front.down = True

        await RememberTasks(kept, front)([an_episode(1)])

        assert len(kept.rows) == 1

    async def test_puts_nothing_in_redis_that_postgres_does_not_hold(self) -> None:
        kept, front = FakeEpisodes(), FakeFront()
        kept.down = True

        with pytest.raises(Unavailable):
            await RememberTasks(kept, front)([an_episode(1)])

        assert front.values == {}


class TestShowEpisode:
    async def show(self, kept: FakeEpisodes, front: FakeFront) -> EpisodeFound:
        return await ShowEpisode(kept, front)(QUERY)

    async def test_comes_from_redis_when_it_is_there(self) -> None:
        kept, front = FakeEpisodes(), FakeFront()
        await front.put([an_episode(1)])
        kept.down = True

        found = await self.show(kept, front)

        assert (found.source, found.degraded) == ("redis", False)

    async def test_comes_from_postgres_and_is_put_in_redis(self) -> None:
        kept, front = FakeEpisodes(), FakeFront()
        await kept.add([an_episode(1)])

        first = await self.show(kept, front)
        second = await self.show(kept, front)

        assert (first.source, first.degraded, second.source) == ("postgres", False, "redis")
        assert first.episode == second.episode

    async def test_says_that_redis_does_not_answer(self) -> None:
        kept, front = FakeEpisodes(), FakeFront()
        await kept.add([an_episode(1)])
        front.down = True

        found = await self.show(kept, front)

        assert (found.source, found.degraded) == ("postgres", True)

    @pytest.mark.parametrize(
        "value", [b"", b"\xff\x00", b"null", b"{}", an_episode(2).body.encode()]
    )
    @pytest.mark.bad_input(28)
    async def test_takes_a_spoilt_value_for_a_miss_and_mends_it(self, value: bytes) -> None:
        kept, front = FakeEpisodes(), FakeFront()
        await kept.add([an_episode(1)])
        front.values["acme", an_episode_id(1)] = value

        found = await self.show(kept, front)

        assert found.source == "postgres"
        assert front.values["acme", an_episode_id(1)] == an_episode(1).body.encode()

    async def test_an_unknown_one_is_not_found(self) -> None:
        with pytest.raises(NotFound) as unknown:
            await self.show(FakeEpisodes(), FakeFront())

        assert unknown.value.code == "EPISODE_NOT_FOUND"


class TestListEpisodes:
    async def find(self, kept: FakeEpisodes, **fields: object) -> EpisodesFound:
        query = FindEpisodes.model_validate({"tenant": "acme"} | fields)
        return await ListEpisodes(kept)(query)

    async def test_pages_to_the_end_without_gap_or_repetition(self) -> None:
        kept = FakeEpisodes()
        await kept.add([an_episode(number) for number in range(10)])

        seen: list[str] = []
        cursor = ""
        while True:
            page = await self.find(kept, limit=3, cursor=cursor)
            seen += [one.episode_id for one in page.episodes]
            cursor = page.cursor
            if not cursor:
                break

        assert seen == [an_episode_id(number) for number in range(9, -1, -1)]

    async def test_a_page_fits_one_message(self) -> None:
        kept = FakeEpisodes()
        large = a_result(output="x" * 16_000)
        await kept.add([an_episode(number, result=large) for number in range(100)])

        page = await self.find(kept, limit=100)

        assert 0 < len(page.episodes) < 100
        assert page.cursor
        assert len(page.model_dump_json()) < 1_000_000

    async def test_filters_by_arm_and_task(self) -> None:
        kept = FakeEpisodes()
        await kept.add([an_episode(1), an_episode(2, arm_id="reader")])

        by_arm = await self.find(kept, arm_id="reader")
        by_task = await self.find(kept, task_id=a_task_id(1))
        by_both = await self.find(kept, arm_id="reader", task_id=a_task_id(1))

        assert [one.task_id for one in by_arm.episodes] == [a_task_id(2)]
        assert [one.task_id for one in by_task.episodes] == [a_task_id(1)]
        assert by_both.episodes == []


class TestCursor:
    QUESTION = Question("acme", "writer", a_task_id(1))

    def test_is_read_by_the_question_that_gave_it(self) -> None:
        cursor = cursor_after(self.QUESTION, an_episode_id(3))

        assert read_cursor(self.QUESTION, cursor) == an_episode_id(3)
        assert read_cursor(self.QUESTION, "") is None

    @pytest.mark.parametrize(
        "other",
        [Question("other", "writer", a_task_id(1)), Question("acme"), Question("acmewriter")],
    )
    @pytest.mark.bad_input(32)
    def test_is_refused_by_another_question(self, other: Question) -> None:
        cursor = cursor_after(self.QUESTION, an_episode_id(3))

        with pytest.raises(Unparsable) as refused:
            read_cursor(other, cursor)

        assert (refused.value.status, refused.value.code) == (400, "INVALID_PARAMETER")

    @pytest.mark.parametrize("forged", ["-1", "0", "x", "é", "AAAAAAAAAAAA", "A" * 48, "%00", "=="])
    @pytest.mark.bad_input(32)
    def test_is_refused_when_it_was_made_up(self, forged: str) -> None:
        with pytest.raises(Unparsable):
            read_cursor(self.QUESTION, forged)

    @pytest.mark.bad_input(32)
    def test_is_refused_when_one_character_was_changed(self) -> None:
        cursor = cursor_after(self.QUESTION, an_episode_id(3))

        for index, letter in enumerate(cursor[:-1]):
            changed = cursor[:index] + ("A" if letter != "A" else "B") + cursor[index + 1 :]
            with pytest.raises(Unparsable):
                read_cursor(self.QUESTION, changed)
