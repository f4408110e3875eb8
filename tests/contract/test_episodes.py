"""One suite for where episodes are kept: fakes, Postgres and Redis behave alike."""

from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio
from msgspec.structs import replace

from octarm.common.storage import open_pool, open_redis
from octarm.common.storage.migrations import upgrade
from octarm.memory.migrate import MIGRATIONS, SCHEMA
from octarm.memory.storage.episodes import PostgresEpisodes
from octarm.memory.storage.front import RedisFront
from octarm.memory.usecases.ports import Episodes, Front
from tests.support.episodes import FakeEpisodes, FakeFront, an_episode, an_episode_id


class EpisodesContract:
    """What every keeper of episodes must do."""

    async def test_gives_back_what_was_added(self, kept: Episodes) -> None:
        await kept.add([an_episode(1), an_episode(2)])

        found = await kept.get("acme", an_episode_id(1))

        assert found is not None
        assert (found.tenant, found.episode_id, found.arm_id, found.body) == (
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
        assert found.body == an_episode(1).body

    async def test_shows_nothing_of_another_tenant(self, kept: Episodes) -> None:
        await kept.add([an_episode(1)])

        assert await kept.get("other", an_episode_id(1)) is None
        assert await _ids(kept, tenant="other") == []

    async def test_keeps_an_episode_without_an_arm(self, kept: Episodes) -> None:
        await kept.add([an_episode(1, verb="cancelled", arm_id=None)])

        found = await kept.get("acme", an_episode_id(1))

        assert found is not None
        assert found.arm_id is None

    async def test_keeps_what_was_written_word_for_word(self, kept: Episodes) -> None:
        nasty = "'; drop table memory.episode; -- \x00 \u202e \x1b[31m {0} %s $1"
        await kept.add([an_episode(1, goal=nasty)])

        found = await kept.get("acme", an_episode_id(1))

        assert found is not None
        assert found.body == an_episode(1, goal=nasty).body

    async def test_keeps_what_is_new_among_what_is_known(self, kept: Episodes) -> None:
        await kept.add([an_episode(1), an_episode(2)])

        refused = await kept.add([an_episode(2, goal="another"), an_episode(3), an_episode(3)])

        found = await kept.get("acme", an_episode_id(2))
        assert refused == {}
        assert found is not None
        assert found.body == an_episode(2).body
        assert await _ids(kept) == [an_episode_id(3), an_episode_id(2), an_episode_id(1)]

    async def test_finds_the_newest_first_and_goes_on_below(self, kept: Episodes) -> None:
        await kept.add([an_episode(number) for number in (2, 1, 4, 3)])

        assert await _ids(kept, limit=2) == [an_episode_id(4), an_episode_id(3)]
        assert await _ids(kept, after=an_episode_id(3)) == [an_episode_id(2), an_episode_id(1)]

    async def test_finds_by_arm_and_by_id(self, kept: Episodes) -> None:
        await kept.add([an_episode(1), an_episode(2, arm_id="reader"), an_episode(3)])

        assert await _ids(kept, arm_id="writer") == [an_episode_id(3), an_episode_id(1)]
        assert await _ids(kept, episode_id=an_episode_id(2)) == [an_episode_id(2)]
        assert await _ids(kept, arm_id="writer", episode_id=an_episode_id(2)) == []

    async def test_names_what_it_can_never_keep_and_keeps_the_rest(self, kept: Episodes) -> None:
        spoilt = replace(an_episode(1), body="{not json")

        refused = await kept.add([spoilt, an_episode(2)])

        assert list(refused) == [an_episode_id(1)]
        assert await _ids(kept) == [an_episode_id(2)]


async def _ids(
    kept: Episodes,
    *,
    tenant: str = "acme",
    arm_id: str | None = None,
    episode_id: str | None = None,
    after: str | None = None,
    limit: int = 10,
) -> list[str]:
    found = await kept.find(tenant, arm_id=arm_id, episode_id=episode_id, after=after, limit=limit)
    return [one.episode_id for one in found]


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


class FrontContract:
    """What every cache in front must do."""

    async def test_gives_back_what_was_put(self, front: Front) -> None:
        await front.put([an_episode(number) for number in range(600)])

        assert await front.get("acme", an_episode_id(599)) == an_episode(599).body.encode()

    async def test_knows_nothing_else(self, front: Front) -> None:
        await front.put([an_episode(1)])

        assert await front.get("acme", an_episode_id(2)) is None
        assert await front.get("other", an_episode_id(1)) is None


class TestFakeFront(FrontContract):
    @pytest.fixture
    def front(self) -> Front:
        return FakeFront()


@pytest.mark.integration
class TestRedisFront(FrontContract):
    @pytest_asyncio.fixture
    async def front(self, redis_url: str) -> AsyncGenerator[Front, None]:
        async with open_redis(redis_url) as redis:
            yield RedisFront(redis, ttl_s=3600)

    async def test_forgets_after_its_time(self, redis_url: str) -> None:
        async with open_redis(redis_url) as redis:
            await RedisFront(redis, ttl_s=3600).put([an_episode(1)])

            left_s = await redis.ttl(f"octarm:memory:episode:acme:{an_episode_id(1)}")

        assert 3590 <= left_s <= 3600

    @pytest.mark.bad_input(28)
    async def test_takes_a_value_of_another_kind_for_a_miss(self, redis_url: str) -> None:
        async with open_redis(redis_url) as redis:
            await redis.lpush(f"octarm:memory:episode:acme:{an_episode_id(1)}", "x")

            assert await RedisFront(redis, ttl_s=3600).get("acme", an_episode_id(1)) is None
