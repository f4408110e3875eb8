"""Whether what Redis serves has all that Postgres has."""

import pytest

from octarm.common.telemetry import metrics
from octarm.memory.usecases.ports import FrontDown
from octarm.memory.usecases.reading import ShowEpisode
from octarm.memory.usecases.staleness import WatchStaleness
from octarm.models.episodes import GetEpisode
from octarm.models.hot_episodes import KeptWrite
from tests.support.episodes import (
    FakeEpisodes,
    FakeFront,
    a_closing,
    a_loader,
    an_entry,
    an_episode_id,
    an_opening,
)

KEY = "acme", an_episode_id(1)
QUERY = GetEpisode(tenant=KEY[0], episode_id=KEY[1])


class NeverBehind:
    async def behind_s(self) -> float:
        return 0.0


def stores() -> tuple[FakeEpisodes, FakeFront, WatchStaleness]:
    kept, front = FakeEpisodes(), FakeFront()
    return kept, front, WatchStaleness(kept, front, NeverBehind())


class TestWatchStaleness:
    async def test_what_redis_has_beyond_postgres_is_not_stale(self) -> None:
        kept, front, watch = stores()
        await kept.keep([an_opening(1)])
        await front.write([an_opening(1), an_entry("1"), a_closing(1)])
        show = ShowEpisode(front, a_loader(kept, front), watch.note)

        await show(QUERY)
        noted = watch.served

        assert (noted, await watch.look(), watch.served) == (KEY, 0.0, None)
        assert KEY in front.values

    @pytest.mark.parametrize("missed", [an_entry("2"), a_closing(1)])
    async def test_what_lacks_an_entry_is_stale_and_taken_away(self, missed: KeptWrite) -> None:
        kept, front, watch = stores()
        await kept.keep([an_opening(1), an_entry("1"), missed])
        await front.write([an_opening(1), an_entry("1")])
        watch.note(KEY)

        assert await watch.look() > 0
        assert KEY not in front.values
        assert b"octarm_memory_stale_total" in metrics.exposition()

    async def test_what_left_either_store_is_no_matter(self) -> None:
        kept, front, watch = stores()
        assert await watch.look() == 0.0
        watch.note(KEY)
        assert await watch.look() == 0.0
        await kept.keep([an_opening(1)])
        await front.bury(*KEY)
        watch.note(KEY)
        assert await watch.look() == 0.0

    async def test_says_when_it_cannot_know(self) -> None:
        kept, front, watch = stores()
        await kept.keep([an_opening(1)])
        front.down = True
        watch.note(KEY)

        with pytest.raises(FrontDown):
            await watch.look()
