"""Watching the arms, and telling what changes."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from octarm.arm_registry.storage import MAX_UNTOLD, BusAnnouncer
from octarm.arm_registry.usecases import WatchArms
from octarm.arm_registry.usecases.announcing import status_event
from octarm.common.testing.fakes import NOON, FakeClock, RecordingPublisher
from octarm.models.arms import ArmRecord
from octarm.models.errors import Unavailable
from tests.support.arms import a_beat, a_record, an_instance
from tests.support.directory import FakeDirectory, RecordingAnnouncer, RecordingConsumers
from tests.support.wait import wait_until


class Watched:
    """A watch on fakes, with the time in hand."""

    def __init__(self, *records: ArmRecord) -> None:
        self.directory = FakeDirectory(*records)
        self.announcer = RecordingAnnouncer()
        self.clock = FakeClock()
        self.connection: int | None = 0
        self.consumers = RecordingConsumers()
        self.watch = WatchArms(
            self.directory,
            self.announcer,
            self.clock,
            lambda: self.connection,
            consumers=self.consumers,
        )

    @asynccontextmanager
    async def leading(self) -> AsyncGenerator[None, None]:
        lost = asyncio.Event()
        leading = asyncio.create_task(self.watch.lead(lost))
        await asyncio.sleep(0)
        try:
            yield
        finally:
            lost.set()
            await leading

    def beat(self, **fields: Any) -> None:
        self.watch.hear(a_beat(**fields))

    async def status(self, arm_id: str = "writer") -> str:
        stored = await self.directory.get(arm_id)
        return stored.record.status if stored else "none"

    async def until(self, status: str) -> None:
        async def reached() -> bool:
            return await self.status() == status

        await wait_until(reached)

    async def pass_s(self, seconds: float) -> None:
        """Let time pass as a running process sees it: in small steps, looking each time."""
        end = self.clock.monotonic() + seconds
        while self.clock.monotonic() < end:
            self.clock.advance(1)
            await self.watch.look()


def online(arm_id: str = "writer", **fields: Any) -> ArmRecord:
    return a_record(
        arm_id, **({"status": "online", "reason": "", "instances": [an_instance()]} | fields)
    )


class TestWatchArms:
    async def test_raises_an_arm_on_its_first_beat_and_tells_it_once(self) -> None:
        watched = Watched(a_record())
        async with watched.leading():
            watched.beat()
            await watched.until("online")
            watched.beat()

        assert watched.announcer.types == ["arm.online"]

    async def test_hears_nothing_while_another_leads(self) -> None:
        watched = Watched(a_record())

        watched.beat()
        watched.watch.reread("writer")
        await watched.watch.look()

        assert await watched.status() == "offline"
        assert watched.watch.healthy()

    async def test_lowers_an_arm_that_falls_silent(self) -> None:
        watched = Watched(a_record())
        async with watched.leading():
            watched.beat()
            await watched.until("online")
            await watched.pass_s(10)
            assert await watched.status() == "degraded"
            await watched.pass_s(5)

        assert await watched.status() == "offline"
        assert watched.announcer.types == ["arm.online", "arm.degraded", "arm.offline"]

    async def test_meets_an_arm_that_registers_while_it_watches(self) -> None:
        watched = Watched()
        async with watched.leading():
            watched.beat()
            await watched.watch.look()
            await watched.directory.create(a_record())
            watched.clock.advance(1)
            watched.beat()
            await watched.until("online")

    async def test_rereads_what_another_replica_changed(self) -> None:
        watched = Watched(online())
        async with watched.leading():
            await watched.watch.look()
            stored = await watched.directory.get("writer")
            assert stored is not None
            await watched.directory.remove(stored)
            watched.clock.advance(1)
            watched.watch.reread("writer")
            await watched.watch.look()
            writes = watched.directory.writes
            await watched.pass_s(20)

        assert watched.directory.writes == writes
        assert watched.announcer.events == []

    async def test_yields_to_another_writer_and_judges_anew(self) -> None:
        watched = Watched(a_record())
        async with watched.leading():
            await watched.watch.look()
            stored = await watched.directory.get("writer")
            assert stored is not None
            await watched.directory.replace(stored, a_record(drain_requested=True))
            watched.beat()
            await watched.until("draining")

    async def test_concludes_nothing_while_it_cannot_hear(self) -> None:
        watched = Watched(a_record())
        async with watched.leading():
            watched.beat()
            await watched.until("online")
            watched.connection = None
            await watched.pass_s(60)
            watched.connection = 1
            await watched.pass_s(14)

            assert await watched.status() == "online"

    async def test_concludes_nothing_from_a_pause_of_its_own(self) -> None:
        watched = Watched(a_record())
        async with watched.leading():
            watched.beat()
            await watched.until("online")
            watched.clock.advance(3600)
            await watched.watch.look()

            assert await watched.status() == "online"
            assert watched.watch.healthy()

    async def test_is_not_healthy_when_it_does_not_look(self) -> None:
        watched = Watched(a_record())
        async with watched.leading():
            await watched.watch.look()
            watched.clock.advance(31)

            assert not watched.watch.healthy()

    async def test_goes_on_when_the_directory_answers_again(self) -> None:
        watched = Watched(a_record())
        watched.directory.down = True
        async with watched.leading():
            with pytest.raises(Unavailable):
                await watched.watch.look()
            watched.directory.down = False

            async def raised() -> bool:
                watched.beat()
                return await watched.status() == "online"

            await wait_until(raised)

    async def test_a_new_leader_tells_again_what_is_young(self) -> None:
        young = NOON - timedelta(minutes=4)
        watched = Watched(
            online("young", registered_at=young - timedelta(days=1), changed_at=young),
            online("old", registered_at=young - timedelta(days=1), changed_at=young - timedelta(1)),
            a_record("never-heard"),
        )
        async with watched.leading():
            await wait_until(lambda: watched.announcer.events)

        assert [event.arm_id for event in watched.announcer.events] == ["young"]


class TestAnnouncing:
    def test_the_same_fact_has_the_same_id(self) -> None:
        first, again = status_event(online()), status_event(online())
        later = status_event(online(changed_at=NOON + timedelta(seconds=1)))

        assert first == again
        assert len({first.event_id, later.event_id, status_event(a_record()).event_id}) == 3

    async def test_tells_until_the_stream_has_it_and_in_order(self) -> None:
        publisher, stop = RecordingPublisher(), asyncio.Event()
        announcer = BusAnnouncer(publisher)
        subject = "octarm.v1.evt.arm.online.writer"
        publisher.refused[subject] = Unavailable("down")
        running = asyncio.create_task(announcer.run(stop))

        announcer.announce(status_event(online()))
        announcer.announce(status_event(a_record()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        publisher.refused.clear()
        await wait_until(lambda: len(publisher.published) == 2)
        stop.set()
        await running

        first = publisher.published[0]
        assert first.subject == subject
        assert first.msg_id == status_event(online()).event_id
        assert f"ce-id: {first.msg_id}\r\n".encode() in first.head
        assert b"ce-type: octarm.arm.online\r\n" in first.head
        assert b"ce-source: octarm/arm-registry\r\n" in first.head

    async def test_tells_what_is_left_before_it_ends(self) -> None:
        publisher, stop = RecordingPublisher(), asyncio.Event()
        announcer = BusAnnouncer(publisher)
        announcer.announce(status_event(online()))
        stop.set()

        await announcer.run(stop)

        assert len(publisher.published) == 1

    def test_forgets_the_oldest_when_too_much_waits(self) -> None:
        publisher = RecordingPublisher()
        announcer = BusAnnouncer(publisher)
        event = status_event(online())

        for _ in range(MAX_UNTOLD + 10):
            announcer.announce(event)

        assert publisher.published == []


async def test_restores_consumers_that_are_gone_and_judges_though_it_cannot() -> None:
    watched = Watched(a_record())
    async with watched.leading():
        await wait_until(lambda: watched.consumers.ensured == ["writer"])
        watched.consumers.ensured.clear()
        await watched.pass_s(11)
        assert watched.consumers.ensured == ["writer"]

        watched.consumers.away = True
        watched.beat()
        await watched.pass_s(11)
        watched.beat()
        await watched.until("online")
