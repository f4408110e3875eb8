"""Remembering and listing, with Postgres as a fake."""

import json

import pytest

from octarm.memory.domain.episode import episode_of, read_ending
from octarm.memory.domain.paging import Question, cursor_after, read_cursor
from octarm.memory.usecases.reading import ListEpisodes
from octarm.memory.usecases.remembering import RememberTasks
from octarm.models.episodes import EpisodesFound, EpisodicMemory, FindEpisodes
from octarm.models.errors import Unavailable, Unparsable
from tests.support.episodes import (
    FakeEpisodes,
    FakeStream,
    a_closing,
    a_loader,
    a_result,
    a_task_id,
    an_ending,
    an_entry,
    an_episode,
    an_episode_id,
    an_opening,
)


class TestRememberTasks:
    async def test_keeps_them_in_postgres(self) -> None:
        kept = FakeEpisodes()

        refused = await RememberTasks(kept)([an_episode(1), an_episode(2)])

        assert refused == {}
        assert len(kept.rows) == 2

    async def test_asks_for_them_again_when_postgres_is_down(self) -> None:
        kept = FakeEpisodes()
        kept.down = True

        with pytest.raises(Unavailable):
            await RememberTasks(kept)([an_episode(1)])

    @pytest.mark.bad_input(25)
    async def test_takes_secrets_out_when_it_is_told_to(self) -> None:
        kept, plain = FakeEpisodes(), FakeEpisodes()
        result = a_result(output={"password": "x"})
        ending = an_ending(goal="write to ann@example.org", result=result)
        told = episode_of(read_ending(ending))

        await RememberTasks(kept, redacts=True)([told])
        await RememberTasks(plain)([told])

        (row,), (as_it_was,) = kept.rows.values(), plain.rows.values()
        assert as_it_was == told
        found, before = (EpisodicMemory.model_validate_json(one.body) for one in (row, told))
        assert found.observations == [{"goal": "write to <EMAIL>"}]
        assert json.loads(row.body)["outcomes"] == [
            json.loads(told.body)["outcomes"][0] | {"output": {"password": "<PASSWORD>"}}
        ]
        left_out = {"observations", "outcomes"}
        assert found.model_dump(exclude=left_out) == before.model_dump(exclude=left_out)


class TestListEpisodes:
    async def find(self, kept: FakeEpisodes, **fields: object) -> EpisodesFound:
        query = FindEpisodes.model_validate({"tenant": "acme"} | fields)
        return await ListEpisodes(kept, a_loader(kept))(query)

    async def test_says_when_it_may_lack_what_is_on_its_way(self) -> None:
        kept = FakeEpisodes()
        stream = FakeStream(kept)
        stream.held = True
        await stream.keep([an_opening(1)])

        page = await ListEpisodes(kept, a_loader(kept, stream=stream))(FindEpisodes(tenant="acme"))

        assert (page.episodes, page.complete) == ([], False)

    async def test_lists_episodes_with_their_entries(self) -> None:
        kept = FakeEpisodes()
        await kept.keep([an_opening(1, tags=["docs"]), an_entry("a", "seen"), a_closing()])

        page = await self.find(kept, tag="docs", since="2026-11-21T00:00:00Z")

        (one,) = page.episodes
        assert (one.observations, one.closed, one.tags) == (["seen"], True, ["docs"])

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
