"""Answers to many who ask at once."""

import asyncio
from types import SimpleNamespace
from typing import Any

from octarm.common.bus.newest_first import AT_ONCE, MAX_BYTES, MAX_WAITING, PATIENCE_S, NewestFirst
from octarm.common.telemetry import metrics
from octarm.common.testing import FakeClock
from octarm.models.queries import ArmKey, Done
from octarm.models.subjects import DEREGISTER_ARM
from tests.support.wait import wait_until


class Desk:
    """A connection on which answers go out, and a handler that waits until it may go on."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.handled: list[str] = []
        self.answered: list[str] = []
        self.may_go_on = asyncio.Event()
        self.answers = NewestFirst(self, DEREGISTER_ARM, self.handle, clock=self.clock)  # type: ignore[arg-type]

    async def handle(self, query: ArmKey) -> Done:
        self.handled.append(query.arm_id)
        await self.may_go_on.wait()
        return Done(changed=True)

    async def publish(self, subject: str, _: bytes) -> None:
        self.answered.append(subject)

    def ask(self, *names: str) -> None:
        for name in names:
            body = ArmKey(arm_id=name).model_dump_json().encode()
            msg: Any = SimpleNamespace(data=body, reply=name)
            self.answers.hear(msg)

    async def all_busy(self) -> None:
        self.ask(*(f"busy-{n}" for n in range(AT_ONCE)))
        await wait_until(lambda: len(self.handled) == AT_ONCE)


def stale() -> float:
    return metrics.registry.get_sample_value("octarm_bus_stale_requests_total") or 0.0


class TestNewestFirst:
    async def test_takes_so_many_at_once_and_then_the_newest(self) -> None:
        desk = Desk()
        await desk.all_busy()

        desk.ask("first", "second", "third")
        await asyncio.sleep(0)
        waiting = len(desk.handled)
        desk.may_go_on.set()
        await desk.answers.close()

        assert waiting == AT_ONCE
        assert desk.handled[AT_ONCE:] == ["third", "second", "first"]
        assert len(desk.answered) == AT_ONCE + 3

    async def test_drops_whoever_has_stopped_waiting(self) -> None:
        desk, before = Desk(), stale()
        await desk.all_busy()
        desk.ask("old", "older")
        desk.clock.advance(PATIENCE_S + 0.1)

        desk.ask("fresh")
        desk.may_go_on.set()
        await desk.answers.close()

        assert desk.handled[AT_ONCE:] == ["fresh"]
        assert stale() - before == 2

    async def test_answers_again_once_a_storm_is_over(self) -> None:
        desk = Desk()
        await desk.all_busy()
        desk.ask("old")
        desk.clock.advance(PATIENCE_S + 0.1)
        desk.may_go_on.set()
        await desk.answers.close()

        desk.ask("late")
        await desk.answers.close()

        assert desk.answered[-1] == "late"

    async def test_drops_the_oldest_of_too_many(self) -> None:
        desk = Desk()
        await desk.all_busy()

        desk.ask(*(f"arm-{n}" for n in range(MAX_WAITING + 1)))
        desk.may_go_on.set()
        await desk.answers.close()

        assert len(desk.answered) == AT_ONCE + MAX_WAITING
        assert "arm-0" not in desk.answered

    async def test_keeps_no_more_bytes_than_it_may(self) -> None:
        desk = Desk()
        await desk.all_busy()
        large: Any = SimpleNamespace(data=b" " * (MAX_BYTES // 2 + 1), reply="large")

        for _ in range(3):
            desk.answers.hear(large)
        desk.may_go_on.set()
        await desk.answers.close()

        assert desk.answered.count("large") == 1

    async def test_what_cannot_be_read_is_answered_too(self) -> None:
        desk = Desk()
        desk.may_go_on.set()
        msg: Any = SimpleNamespace(data=b"{", reply="who")

        desk.answers.hear(msg)
        await desk.answers.close()

        assert desk.answered == ["who"]
        assert desk.handled == []
