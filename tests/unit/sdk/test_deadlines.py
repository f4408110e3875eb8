"""Deadlines of many items on one timer."""

import asyncio
import time

from octarm.sdk.deadlines import PER_S, Deadlines
from tests.support.wait import wait_until


class TestDeadlines:
    async def test_calls_for_each_item_not_before_its_time_and_soon_after(self) -> None:
        passed: dict[str, float] = {}
        deadlines: Deadlines[str] = Deadlines(lambda item: passed.update({item: time.monotonic()}))
        began = time.monotonic()

        deadlines.put("late", 0.3)
        deadlines.put("soon", 0.1)
        deadlines.put("as soon", 0.1)
        await wait_until(lambda: len(passed) == 3)

        assert list(passed)[2] == "late"
        assert passed["soon"] - began >= 0.1
        assert passed["late"] - began >= 0.3

    async def test_does_not_call_for_what_was_taken_out(self) -> None:
        passed: list[str] = []
        deadlines: Deadlines[str] = Deadlines(passed.append)
        slot = deadlines.put("out", 0.05)
        deadlines.put("in", 0.15)

        deadlines.drop("out", slot)
        deadlines.drop("never in", 0)
        await wait_until(lambda: passed)

        assert passed == ["in"]

    async def test_goes_on_with_what_is_put_in_meanwhile(self) -> None:
        passed: list[int] = []

        def again(number: int) -> None:
            passed.append(number)
            if number < 3:
                deadlines.put(number + 1, 0.01)

        deadlines: Deadlines[int] = Deadlines(again)
        deadlines.put(1, 0.01)
        await wait_until(lambda: len(passed) == 3)

        assert passed == [1, 2, 3]

    async def test_calls_for_nothing_once_it_is_closed(self) -> None:
        passed: list[str] = []
        deadlines: Deadlines[str] = Deadlines(passed.append)
        deadlines.close()
        deadlines.put("one", 0.0)

        deadlines.close()
        await asyncio.sleep(3 / PER_S)

        assert passed == []
