"""Natural batching."""

import asyncio
from collections.abc import Sequence

import pytest

from octarm.common.storage import Batcher
from octarm.models.errors import Backpressure


async def doubled(items: list[int]) -> list[int | Exception]:
    """Answer each item with its double."""
    return [item * 2 for item in items]


class TestBatcher:
    async def test_answers_one_item_after_the_other(self) -> None:
        batcher = Batcher(doubled)

        async with asyncio.timeout(60):
            assert [await batcher.put(item) for item in range(100)] == list(range(0, 200, 2))

    async def test_takes_an_item_at_the_moment_a_flush_ends(self) -> None:
        batcher = Batcher(doubled)
        seconds: list[asyncio.Future[int]] = []
        first = batcher.put_nowait(1)
        first.add_done_callback(lambda _: seconds.append(batcher.put_nowait(2)))

        async with asyncio.timeout(60):
            assert await first == 2
            await asyncio.sleep(0)
            assert await seconds[0] == 4

    async def test_gathers_while_a_flush_is_under_way(self) -> None:
        sizes: list[int] = []

        async def slow(items: list[int]) -> list[int | Exception]:
            sizes.append(len(items))
            await asyncio.sleep(0.01)
            return await doubled(items)

        batcher = Batcher(slow, max_items=8)
        await asyncio.gather(batcher.put(0))
        await asyncio.gather(*(batcher.put(item) for item in range(20)))

        assert sizes == [1, 8, 8, 4]

    async def test_who_finds_nothing_under_way_flushes_at_once(self) -> None:
        flushed: list[list[int]] = []
        go_on = asyncio.Event()

        async def slow(items: list[int]) -> list[int | Exception]:
            flushed.append(items)
            await go_on.wait()
            return await doubled(items)

        batcher = Batcher(slow, max_items=3)
        first = asyncio.create_task(batcher.put_many([1]))
        await asyncio.sleep(0)
        others = [asyncio.create_task(batcher.put_many([number])) for number in (2, 3)]
        await asyncio.sleep(0)
        go_on.set()
        await batcher.drain()

        assert [await first, *[await other for other in others]] == [[2], [4], [6]]
        assert flushed == [[1], [2, 3]]
        assert await batcher.put_many([1, 2, 3, 4]) == [2, 4, 6, 8]
        assert await batcher.put_many([]) == []

    async def test_a_flood_of_one_owner_does_not_keep_another_waiting(self) -> None:
        flushed: list[list[str]] = []

        async def slow(items: list[str]) -> list[str | Exception]:
            flushed.append(items)
            await asyncio.sleep(0)
            return list(items)

        batcher = Batcher(slow, max_items=4, owner_of=lambda item: item[0])
        flood = batcher.put_many_nowait(["f"] * 40)
        quiet = batcher.put_nowait("q")

        assert await quiet == "q"
        assert "q" in flushed[0]
        assert await flood == ["f"] * 40

    async def test_those_who_come_again_go_together_and_not_by_turns(self) -> None:
        sizes: list[int] = []

        async def slow(items: list[int]) -> list[int | Exception]:
            sizes.append(len(items))
            await asyncio.sleep(0.005)
            return await doubled(items)

        batcher = Batcher(slow, gather_s=0.05)

        async def caller(after_s: float) -> None:
            await asyncio.sleep(after_s)
            for item in range(3):
                await batcher.put(item)

        await asyncio.gather(*(caller(after_s) for after_s in (0, 0, 0.002, 0.002)))

        assert sizes == [2, 4, 4, 2]

    async def test_one_who_is_alone_does_not_wait(self) -> None:
        batcher = Batcher(doubled, gather_s=60)

        async with asyncio.timeout(60):
            assert [await batcher.put(item) for item in range(3)] == [0, 2, 4]

    async def test_raises_what_belongs_to_an_item_to_its_caller_only(self) -> None:
        async def odd_fails(items: list[int]) -> Sequence[int | Exception]:
            return [ValueError("odd") if item % 2 else item for item in items]

        answers = await asyncio.gather(
            *(Batcher(odd_fails).put(item) for item in (1, 2)), return_exceptions=True
        )

        assert isinstance(answers[0], ValueError)
        assert answers[1] == 2

    @pytest.mark.parametrize("count", [0, 3])
    async def test_leaves_nobody_waiting_when_the_answers_do_not_fit(self, count: int) -> None:
        async def wrong(_: list[int]) -> list[int | Exception]:
            return [0] * count

        batcher = Batcher(wrong)

        with pytest.raises(ValueError, match="answers for 1 items"):
            await batcher.put(1)
        await batcher.drain()


async def test_refuses_what_goes_beyond_its_bounds() -> None:
    release = asyncio.Event()

    async def flush(items: list[str]) -> list[str]:
        await release.wait()
        return items

    batcher = Batcher(flush, max_items=1, max_waiting=2, max_bytes=10, size_of=len)
    first = batcher.put_nowait("under way")
    await asyncio.sleep(0.01)

    small, large = batcher.put_nowait("small"), batcher.put_nowait("a large one")
    refused = batcher.put_nowait("one more")

    with pytest.raises(Backpressure) as refusal:
        await refused
    assert (refusal.value.code, refusal.value.retry_after_s) == ("QUEUE_FULL", 1)
    release.set()
    assert await small == "small"
    assert [await first, await large] == ["under way", "a large one"]
    assert await batcher.put("fits again") == "fits again"


async def test_refuses_what_would_wait_too_long_at_its_speed() -> None:
    async def slow(items: list[int]) -> list[int]:
        await asyncio.sleep(0.02 * len(items))
        return items

    batcher = Batcher(slow, max_items=2, max_wait_s=0.05)
    for number in range(10):
        await batcher.put(number)

    answers = await asyncio.gather(
        *(batcher.put_nowait(number) for number in range(30)), return_exceptions=True
    )

    refused = [answer for answer in answers if isinstance(answer, Backpressure)]
    assert 10 < len(refused) <= 30
    assert await batcher.put(1) == 1


class TestTogether:
    async def test_gives_all_answers_in_order_though_they_were_flushed_apart(self) -> None:
        sizes: list[int] = []

        async def odd_fails(items: list[int]) -> Sequence[int | Exception]:
            sizes.append(len(items))
            return [ValueError(str(item)) if item % 2 else item for item in items]

        batcher = Batcher(odd_fails, max_items=2)
        first, second, none = (batcher.put_many_nowait(range(n)) for n in (3, 2, 0))

        assert [str(answer) for answer in await first] == ["0", "1", "2"]
        assert isinstance((await first)[1], ValueError)
        assert [str(answer) for answer in await second] == ["0", "1"]
        assert await none == []
        assert sizes == [2, 2, 1]

    async def test_are_refused_together_and_nothing_of_them_is_kept(self) -> None:
        release = asyncio.Event()

        async def flush(items: list[int]) -> list[int]:
            await release.wait()
            return items

        batcher = Batcher(flush, max_items=2, max_waiting=3)
        under_way = batcher.put_many_nowait([1, 2])
        await asyncio.sleep(0.01)

        last = batcher.put_many_nowait([3, 4, 5, 6])
        refused = await batcher.put_many_nowait([7, 8])

        assert batcher.refusal() is not None
        assert all(isinstance(answer, Backpressure) for answer in refused)
        release.set()
        assert [*await under_way, *await last] == [1, 2, 3, 4, 5, 6]
        assert batcher.refusal() is None

    async def test_who_gave_up_is_not_flushed(self) -> None:
        flushed: list[int] = []

        async def flush(items: list[int]) -> list[int]:
            flushed.extend(items)
            return items

        batcher = Batcher(flush)
        given_up, other = batcher.put_many_nowait([1, 2]), batcher.put_many_nowait([3])
        given_up.cancel()

        assert await other == [3]
        assert flushed == [3]


async def test_takes_a_few_at_any_speed_and_says_when_there_will_be_room() -> None:
    async def slow(items: list[int]) -> list[int]:
        await asyncio.sleep(0.3 * len(items))
        return items

    batcher = Batcher(slow, max_items=1, max_wait_s=0.01, min_waiting=30)
    await batcher.put(0)

    pending = batcher.put_many_nowait(range(29))
    assert batcher.refusal() is None
    more = batcher.put_many_nowait(range(1))

    refusal = batcher.refusal()
    assert refusal is not None
    assert refusal.retry_after_s == 2
    for future in (pending, more):
        future.cancel()
    await batcher.drain()
