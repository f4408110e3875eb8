"""One suite for where episodes are kept for good: the fake and Postgres behave alike."""

from collections.abc import AsyncGenerator
from datetime import datetime, timedelta
from typing import NamedTuple

import pytest
import pytest_asyncio
from msgspec import Raw
from msgspec.structs import replace

from octarm.common.storage import open_pool
from octarm.common.storage.migrations import upgrade
from octarm.common.testing.fakes import NOON
from octarm.memory.domain.paging import Question
from octarm.memory.schema import MIGRATIONS, SCHEMA
from octarm.memory.storage.episodes import PostgresEpisodes
from octarm.memory.storage.writes import PostgresWrites
from octarm.memory.usecases.ports import Entries, Episodes
from tests.support.episodes import (
    FakeEpisodes,
    a_closing,
    a_task_id,
    an_entry,
    an_episode,
    an_episode_id,
    an_opening,
)


class Both(NamedTuple):
    """Two roles that one store fills."""

    kept: Episodes
    entries: Entries


class EpisodesContract:
    """What every keeper of episodes must do."""

    async def test_gives_back_what_was_added(self, kept: Episodes) -> None:
        await kept.add([an_episode(1), an_episode(2)])

        found = await kept.get("acme", an_episode_id(1))

        assert found is not None
        base = found.base
        assert (base.tenant, base.episode_id, base.arm_id, base.body) == (
            "acme",
            an_episode_id(1),
            "writer",
            an_episode(1).body,
        )

    async def test_keeps_the_first_of_two_with_the_same_id(self, kept: Episodes) -> None:
        await kept.add([an_episode(1), an_episode(1, goal="in the same batch")])
        await kept.add([an_episode(1, goal="later")])

        found = await kept.get("acme", an_episode_id(1))

        assert found is not None
        assert found.base.body == an_episode(1).body

    async def test_shows_nothing_of_another_tenant(self, kept: Episodes) -> None:
        await kept.add([an_episode(1)])

        assert await kept.get("other", an_episode_id(1)) is None
        assert await _ids(kept, tenant="other") == []

    async def test_keeps_an_episode_without_an_arm(self, kept: Episodes) -> None:
        await kept.add([an_episode(1, verb="cancelled", arm_id=None)])

        found = await kept.get("acme", an_episode_id(1))

        assert found is not None
        assert found.base.arm_id is None

    async def test_keeps_what_was_written_word_for_word(self, kept: Episodes) -> None:
        nasty = "'; drop table memory.episode; -- \x00 \u202e \x1b[31m {0} %s $1"
        await kept.add([an_episode(1, goal=nasty)])

        found = await kept.get("acme", an_episode_id(1))

        assert found is not None
        assert found.base.body == an_episode(1, goal=nasty).body

    async def test_keeps_what_is_new_among_what_is_known(self, kept: Episodes) -> None:
        await kept.add([an_episode(1), an_episode(2)])

        refused = await kept.add([an_episode(2, goal="another"), an_episode(3), an_episode(3)])

        found = await kept.get("acme", an_episode_id(2))
        assert refused == {}
        assert found is not None
        assert found.base.body == an_episode(2).body
        assert await _ids(kept) == [an_episode_id(3), an_episode_id(2), an_episode_id(1)]

    async def test_finds_the_newest_first_and_goes_on_below(self, kept: Episodes) -> None:
        await kept.add([an_episode(number) for number in (2, 1, 4, 3)])

        assert await _ids(kept, limit=2) == [an_episode_id(4), an_episode_id(3)]
        assert await _ids(kept, after=an_episode_id(3)) == [an_episode_id(2), an_episode_id(1)]

    async def test_finds_by_arm_and_by_id(self, kept: Episodes) -> None:
        await kept.add([an_episode(1), an_episode(2, arm_id="reader"), an_episode(3)])

        assert await _ids(kept, arm_id="writer") == [an_episode_id(3), an_episode_id(1)]
        assert await _ids(kept, task_id=a_task_id(2)) == [an_episode_id(2)]
        assert await _ids(kept, arm_id="writer", task_id=a_task_id(2)) == []

    async def test_names_what_it_can_never_keep_and_keeps_the_rest(self, kept: Episodes) -> None:
        spoilt = replace(an_episode(1), body="{not json")

        refused = await kept.add([spoilt, an_episode(2)])

        assert list(refused) == [an_episode_id(1)]
        assert await _ids(kept) == [an_episode_id(2)]


class EntriesContract:
    """What every keeper of entries must do; it is the keeper of their episodes too."""

    async def test_keeps_an_episode_with_its_entries(self, both: Both) -> None:
        await both.entries.keep([an_opening(1, tags=["docs"]), an_entry("a", {"n": 1})])
        await both.entries.keep([an_entry("b", 2, seq=5), a_closing()])

        found = await both.kept.get("acme", an_episode_id(1))

        assert found is not None
        assert found.base.tags == ("docs",)
        assert sorted(found.entries) == ["a", "b", "close"]
        assert (found.entries["b"].seq, bytes(found.entries["b"].body)) == (5, b"2")

    async def test_keeps_the_first_of_two_with_one_id(self, both: Both) -> None:
        await both.entries.keep([an_opening(1), an_entry("a", 1), an_entry("a", 2)])
        await both.entries.keep([an_opening(1, tags=["late"]), an_entry("a", 3)])

        found = await both.kept.get("acme", an_episode_id(1))

        assert found is not None
        assert (found.base.tags, bytes(found.entries["a"].body)) == ((), b"1")

    async def test_order_of_arrival_does_not_matter(self, both: Both) -> None:
        await both.entries.keep([an_entry("a", 1)])
        await both.entries.keep([an_opening(1)])

        found = await both.kept.get("acme", an_episode_id(1))

        assert found is not None
        assert list(found.entries) == ["a"]

    async def test_entries_without_an_opening_are_no_episode(self, both: Both) -> None:
        await both.entries.keep([an_entry("a", 1)])

        assert await both.kept.get("acme", an_episode_id(1)) is None
        assert await _ids(both.kept) == []

    async def test_names_what_it_can_never_keep_and_keeps_the_rest(self, both: Both) -> None:
        spoilt = replace(an_entry("x"), body=Raw(b"{"))

        refused = await both.entries.keep([an_opening(1), spoilt, an_entry("a")])

        found = await both.kept.get("acme", an_episode_id(1))
        assert list(refused) == [1]
        assert found is not None
        assert list(found.entries) == ["a"]

    async def test_finds_by_tag_task_and_time(self, both: Both) -> None:
        later = NOON + timedelta(hours=1)
        await both.entries.keep(
            [
                an_opening(1, tags=["docs", "new"]),
                an_opening(2, task_id=a_task_id(7), created_at=later),
                an_opening(1, tenant="other", tags=["docs"]),
            ]
        )

        one, two = [an_episode_id(1)], [an_episode_id(2)]
        assert await _ids(both.kept, tag="docs") == one
        assert await _ids(both.kept, task_id=a_task_id(7)) == two
        assert await _ids(both.kept, since=later) == two
        assert await _ids(both.kept, until=later) == one
        assert await _ids(both.kept, tag="docs", since=later) == []

    async def test_what_was_buried_is_not_shown_and_does_not_come_back(self, both: Both) -> None:
        await both.entries.keep([an_opening(1), an_entry("a")])
        await both.kept.add([an_episode(2)])
        for number in (1, 2):
            await both.entries.bury("acme", an_episode_id(number))
            await both.entries.bury("acme", an_episode_id(number))

        shown = [await both.kept.get("acme", an_episode_id(number)) for number in (1, 2)]
        listed = await _ids(both.kept)
        there = [await both.entries.delete("acme", an_episode_id(number)) for number in (1, 2)]
        await both.entries.keep([an_opening(1), an_entry("late")])
        await both.kept.add([an_episode(2)])
        again = [await both.entries.delete("acme", an_episode_id(number)) for number in (1, 2)]

        assert (shown, listed, there) == ([None, None], [], [True, True])
        assert again == [False, False]


async def _ids(
    kept: Episodes,
    *,
    tenant: str = "acme",
    arm_id: str | None = None,
    task_id: str | None = None,
    tag: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    after: str | None = None,
    limit: int = 10,
) -> list[str]:
    question = Question(tenant, arm_id, task_id, tag, since, until)
    found = await kept.find(question, after=after, limit=limit)
    return [one.base.episode_id for one in found]


class TestFakeEpisodes(EpisodesContract):
    @pytest.fixture
    def kept(self) -> Episodes:
        return FakeEpisodes()


@pytest.mark.integration
class TestPostgresEpisodes(EpisodesContract):
    @pytest_asyncio.fixture
    async def kept(self, postgres_url: str) -> AsyncGenerator[Episodes, None]:
        upgrade(postgres_url, MIGRATIONS, SCHEMA)
        pool = await open_pool(postgres_url, name="test", wait_s=60)
        yield PostgresEpisodes(pool)
        await pool.close()


class TestFakeEntries(EntriesContract):
    @pytest.fixture
    def both(self) -> Both:
        fake = FakeEpisodes()
        return Both(fake, fake)


@pytest.mark.integration
class TestPostgresEntries(EntriesContract):
    @pytest_asyncio.fixture
    async def both(self, postgres_url: str) -> AsyncGenerator[Both, None]:
        upgrade(postgres_url, MIGRATIONS, SCHEMA)
        pool = await open_pool(postgres_url, name="test", wait_s=60)
        yield Both(PostgresEpisodes(pool), PostgresWrites(pool))
        await pool.close()
