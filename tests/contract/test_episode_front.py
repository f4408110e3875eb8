"""One suite for what is in front of the kept episodes: the fake and Redis behave alike."""

import asyncio
import json
from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from octarm.common.storage import open_redis
from octarm.memory.domain.entries import Entry, opened
from octarm.memory.storage.front import RedisFront
from octarm.memory.storage.gate import DISTRUST_S
from octarm.memory.usecases.ports import Cached, Front, FrontDown, Kept, Landed
from octarm.models.episodes import FrontRenewed
from tests.support.episodes import (
    FakeFront,
    a_closing,
    an_entry,
    an_episode,
    an_episode_id,
    an_opening,
    hours_later,
    put_in,
)
from tests.support.wait import PATIENCE_S

KEY = f"octarm:memory:episode:acme:{an_episode_id(1)}"


async def got(front: Front, number: int = 1, tenant: str = "acme") -> Cached | None:
    """Ask both ways, which must come to the same."""
    key = tenant, an_episode_id(number)
    told: asyncio.Future[Cached | None] = asyncio.get_running_loop().create_future()
    try:
        waited_for = await front.get(*key)
    except FrontDown:
        assert not front.begin_get(key, told.set_result)
        raise
    assert front.begin_get(key, told.set_result)
    async with asyncio.timeout(PATIENCE_S):
        assert await told == waited_for
    return waited_for


async def shown(front: Front, number: int = 1, tenant: str = "acme") -> dict[str, object] | None:
    cached = await got(front, number, tenant)
    return None if cached is None or cached.body is None else json.loads(cached.body)


def a_kept_episode() -> Kept:
    opening = an_opening(1).opening
    assert opening is not None
    base = opened("acme", an_episode_id(1), opening, created_at=hours_later(0))
    return Kept(base, {"a": Entry(3, "observation", an_entry(body="kept").body)})


class FrontContract:
    """What every cache in front must do."""

    async def test_gives_back_whole_episodes(self, front: Front) -> None:
        await put_in(front, *(an_episode(number) for number in range(20)))

        cached = await got(front, 19)

        assert cached is not None
        assert json.loads(cached.body or b"")["episode_id"] == an_episode_id(19)

    async def test_knows_nothing_else(self, front: Front) -> None:
        await put_in(front, an_episode(1))

        assert await got(front, 2) is None
        assert await got(front, tenant="other") is None

    async def test_writes_to_what_was_opened_in_the_order_of_seq(self, front: Front) -> None:
        landed = await front.write(
            [an_opening(1), an_entry("a", "second", seq=20), an_entry("b", "first", seq=10)]
        )

        found = await shown(front)

        assert landed == [Landed.CREATED] * 3
        assert found is not None
        assert found["observations"] == ["first", "second"]

    async def test_takes_an_entry_once(self, front: Front) -> None:
        await front.write([an_opening(1), an_entry("a", 1)])

        landed = await front.write([an_opening(1), an_entry("a", 2), an_entry("a", 3)])

        found = await shown(front)
        assert landed == [Landed.KNOWN] * 3
        assert found is not None
        assert found["observations"] == [1]

    async def test_takes_nothing_for_what_it_has_not(self, front: Front) -> None:
        assert await front.write([an_entry("a"), a_closing()]) == [Landed.ABSENT] * 2
        assert await shown(front) is None

    async def test_takes_nothing_for_what_is_closed_but_its_extension(self, front: Front) -> None:
        await front.write([an_opening(1), a_closing()])

        landed = await front.write(
            [
                an_entry("a"),
                a_closing(),
                an_entry("close-2", None, kind="close"),
                an_entry("x", None, kind="extend", ttl_seconds=7200),
            ]
        )

        found = await shown(front)
        assert landed == [Landed.CLOSED, Landed.KNOWN, Landed.KNOWN, Landed.CREATED]
        assert found is not None
        assert (found["closed"], found["ttl_seconds"]) == (True, 7200)

    async def test_is_filled_and_then_written_to(self, front: Front) -> None:
        token = await front.lease("acme", an_episode_id(1))

        filled = await front.fill(a_kept_episode(), token)
        landed = await front.write([an_entry("a"), an_entry("b", "new")])

        found = await shown(front)
        assert (filled, landed) == (True, [Landed.KNOWN, Landed.CREATED])
        assert found is not None
        assert found["observations"] == ["kept", "new"]

    async def test_is_not_filled_past_a_write_that_it_did_not_take(self, front: Front) -> None:
        token = await front.lease("acme", an_episode_id(1))

        await front.write([an_entry("b")])

        assert not await front.fill(a_kept_episode(), token)
        assert await shown(front) is None

    async def test_only_the_last_lease_fills(self, front: Front) -> None:
        first = await front.lease("acme", an_episode_id(1))
        second = await front.lease("acme", an_episode_id(1))

        assert not await front.fill(a_kept_episode(), first) or first == second

    async def test_what_was_buried_is_gone(self, front: Front) -> None:
        await front.write([an_opening(1), an_entry("a")])
        token = await front.lease("acme", an_episode_id(1))

        await front.bury("acme", an_episode_id(1))
        landed = await front.write([an_opening(1), an_entry("b")])
        filled = await front.fill(a_kept_episode(), token)

        cached = await got(front)
        assert (landed, filled) == ([Landed.GONE] * 2, False)
        assert cached is not None
        assert cached.gone

    async def test_what_was_dropped_is_not_there(self, front: Front) -> None:
        await front.write([an_opening(1), an_entry("a")])

        await front.drop([("acme", an_episode_id(1)), ("acme", an_episode_id(2))])

        assert await shown(front) is None
        assert await front.write([an_entry("b")]) == [Landed.ABSENT]


class TestFakeFront(FrontContract):
    @pytest.fixture
    def front(self) -> Front:
        return FakeFront()


class CountingEpochs:
    """Counts for one process."""

    def __init__(self) -> None:
        self.epoch = 0
        self.told: list[int] = []

    async def renew(self) -> int:
        self.epoch += 1
        return self.epoch

    async def say_lost(self, epoch: int) -> None:
        self.told.append(epoch)


@pytest.mark.integration
class TestRedisFront(FrontContract):
    @pytest_asyncio.fixture
    async def redis(self, redis_url: str) -> AsyncGenerator[Redis, None]:
        async with open_redis(redis_url, timeout_s=30) as redis:
            yield redis

    @pytest_asyncio.fixture
    async def front(self, redis: Redis) -> RedisFront:
        front = RedisFront(redis, CountingEpochs(), ttl_s=3600)
        assert await front.gate.open()
        return front

    async def test_forgets_after_its_time(self, front: RedisFront, redis: Redis) -> None:
        await put_in(front, an_episode(2))
        await front.write([an_opening(1, ttl_seconds=900)])

        whole = await redis.ttl(KEY.replace(an_episode_id(1), an_episode_id(2)))
        opened_s = await redis.ttl(KEY)
        await front.write([an_entry("x", None, kind="extend", ttl_seconds=7200)])

        assert 3500 <= whole <= 3600
        assert 800 <= opened_s <= 900
        assert 7100 <= await redis.ttl(KEY) <= 7200

    @pytest.mark.bad_input(28)
    async def test_takes_a_value_of_another_kind_for_a_miss(
        self, front: RedisFront, redis: Redis
    ) -> None:
        await redis.lpush(KEY, "x")

        assert await got(front) is None
        assert await front.write([an_entry("a")]) == [Landed.ABSENT]
        assert await front.write([an_opening(1)]) == [Landed.CREATED]

    @pytest.mark.bad_input(28)
    @pytest.mark.parametrize(
        ("field", "value"),
        [("#h", b""), ("#h", b"\xff"), ("#h", b"{}"), ("a", b"\xff"), ("a", b"{}"), ("a", b"[")],
    )
    async def test_takes_a_spoilt_value_for_a_miss(
        self, front: RedisFront, redis: Redis, field: str, value: bytes
    ) -> None:
        await front.write([an_opening(1), an_entry("a")])

        await redis.hset(KEY, field, value)

        assert await got(front) is None

    @pytest.mark.bad_input(28)
    async def test_an_episode_of_another_under_its_key_is_a_miss(
        self, front: RedisFront, redis: Redis
    ) -> None:
        await put_in(front, an_episode(1), an_episode(2))

        await redis.hset(KEY, "#h", an_episode(2).body)

        assert await got(front) is None

    async def test_an_episode_is_full_one_day(self, front: RedisFront) -> None:
        await front.write([an_opening(1)])
        large = "x" * 60_000

        landed = [(await front.write([an_entry(str(n), large)]))[0] for n in range(15)]

        assert landed[0] is Landed.CREATED
        assert landed[-1] is Landed.FULL

    async def test_trusts_nothing_of_an_earlier_epoch(
        self, front: RedisFront, redis: Redis
    ) -> None:
        await front.write([an_opening(1), an_entry("a")])

        front.gate.lost(TimeoutError())
        with pytest.raises(FrontDown):
            await got(front)
        assert await front.gate.open()

        assert await got(front) is None
        assert await front.write([an_entry("b")]) == [Landed.ABSENT]
        assert not await redis.exists(KEY)

    async def test_who_does_not_wait_is_told_of_a_loss_after_the_gate(
        self, front: RedisFront, redis: Redis
    ) -> None:
        await front.write([an_opening(1)])
        key = "acme", an_episode_id(1)
        told: asyncio.Future[tuple[Cached | None, bool]] = asyncio.Future()

        assert front.begin_get(key, lambda found: told.set_result((found, front.gate.is_open())))
        front._link._wire.connection._writer.transport.abort()  # type: ignore[union-attr]

        async with asyncio.timeout(PATIENCE_S):
            assert await told == (None, False)
        assert not front.begin_get(key, lambda _: None)

    async def test_follows_another_process(self, front: RedisFront) -> None:
        await front.write([an_opening(1)])

        front.gate.hear(FrontRenewed(epoch=9, said_by="m-2"))
        assert await got(front) is None

        front.gate.hear(FrontRenewed(epoch=9, usable=False, said_by="m-2"))
        assert DISTRUST_S > 0
        with pytest.raises(FrontDown):
            await got(front)

    async def test_when_redis_is_full_it_drops_what_misses_a_write(
        self, front: RedisFront, redis: Redis
    ) -> None:
        await front.write([an_opening(1), an_entry("a")])
        await front.write([an_opening(2)])
        await redis.config_set("maxmemory-policy", "noeviction")
        await redis.config_set("maxmemory", 1)
        try:
            with pytest.raises(FrontDown):
                await front.write([an_entry("b")])
            assert await shown(front) is None
            assert await shown(front, 2) is not None
        finally:
            await redis.config_set("maxmemory", 0)

    async def test_buries_later_what_it_cannot_reach_now(
        self, front: RedisFront, redis: Redis
    ) -> None:
        await front.write([an_opening(1)])
        front.gate.lost(TimeoutError())

        with pytest.raises(FrontDown):
            await front.bury("acme", an_episode_id(1))
        assert await front.gate.open()

        assert not await redis.exists(KEY)
