"""The relay with a fake outbox: what it repeats, and what it lets go."""

import asyncio
import contextlib
from collections.abc import Collection, Sequence

from octarm.common.bus.publisher import Outgoing, PubAck
from octarm.common.testing import FakeClock, RecordingPublisher
from octarm.ledger.domain.changes import Entry
from octarm.models.errors import Backpressure, OctarmError, PayloadTooLarge, Unavailable
from octarm.orchestrator.usecases.relay import (
    FULL_S,
    MAX_BACKLOG,
    MAX_BACKLOG_BYTES,
    PASSED_OVER_S,
    Relay,
)
from tests.support.wait import wait_until


class FakeOutbox:
    def __init__(self, *entries: Entry) -> None:
        self.entries = {entry.seq: entry for entry in entries}

    async def delete(self, seqs: Sequence[int]) -> None:
        for seq in seqs:
            self.entries.pop(seq, None)

    async def older_than(self, seconds: float, *, without: Collection[int]) -> list[Entry]:
        return [entry for seq, entry in sorted(self.entries.items()) if seq not in without][:50]


def an_entry(seq: int, *subjects: str) -> Entry:
    return Entry(seq, [Outgoing(subject, b"{}", f"{seq}:{subject}") for subject in subjects])


async def test_lets_go_what_the_bus_will_never_take_and_tells_the_rest() -> None:
    bus, outbox = RecordingPublisher(), FakeOutbox(an_entry(1, "large", "small"))
    bus.refused["large"] = PayloadTooLarge("it does not fit the bus")

    await Relay(bus, outbox).sweep()

    assert [message.subject for message in bus.published] == ["small"]
    assert not outbox.entries


async def test_repeats_what_the_bus_may_take_later() -> None:
    bus, outbox = RecordingPublisher(), FakeOutbox(an_entry(1, "large", "full", "small"))
    bus.refused["large"] = PayloadTooLarge("it does not fit the bus")
    bus.refused["full"] = Backpressure("the stream is full")
    clock = FakeClock()
    relay = Relay(bus, outbox, clock=clock)

    await relay.sweep()
    kept = list(outbox.entries)
    bus.refused.clear()
    clock.advance(FULL_S)
    await relay.sweep()

    assert kept == [1]
    assert not outbox.entries


def a_crowd(number: int, *subjects: str, first: int = 1) -> list[Entry]:
    return [an_entry(seq, *subjects) for seq in range(first, first + number)]


READY = "octarm.v1.cmd.task.place.0"
EVENTS = "octarm.v1.evt.tasks.moved.acme.1"


async def test_what_a_full_stream_refuses_keeps_nothing_else_waiting() -> None:
    others = a_crowd(3, EVENTS, first=1000)
    bus, outbox = RecordingPublisher(), FakeOutbox(*a_crowd(120, READY, EVENTS), *others)
    bus.refused[READY] = Backpressure("the stream is full")

    await Relay(bus, outbox, clock=FakeClock()).sweep()

    assert sorted(outbox.entries) == list(range(1, 121))


async def test_finds_its_way_past_any_number_of_refused_rows() -> None:
    others = a_crowd(1, EVENTS, first=1000)
    bus, outbox = RecordingPublisher(), FakeOutbox(*a_crowd(600, READY), *others)
    bus.refused[READY] = Backpressure("the stream is full")
    clock = FakeClock()
    relay = Relay(bus, outbox, clock=clock)

    for _ in range(4):
        await relay.sweep()
        clock.advance(4)

    assert 1000 not in outbox.entries


async def test_everything_goes_out_when_the_stream_has_room_again() -> None:
    bus, outbox = RecordingPublisher(), FakeOutbox(*a_crowd(300, READY))
    bus.refused[READY] = Backpressure("the stream is full")
    clock = FakeClock()
    relay = Relay(bus, outbox, clock=clock)
    await relay.sweep()

    bus.refused.clear()
    clock.advance(FULL_S)
    published = await relay.sweep()

    assert published == 300
    assert not outbox.entries


async def test_asks_a_full_stream_only_now_and_then() -> None:
    bus, outbox = (
        CountingPublisher(),
        FakeOutbox(*a_crowd(50, READY), *a_crowd(50, READY, first=51)),
    )
    bus.refused[READY] = Backpressure("the stream is full")

    await Relay(bus, outbox, clock=FakeClock()).sweep()

    assert bus.asked == 50


async def test_tries_again_what_was_refused_for_another_reason() -> None:
    bus, outbox = RecordingPublisher(), FakeOutbox(*a_crowd(20, EVENTS))
    bus.refused[EVENTS] = Unavailable("no acknowledgement")
    clock = FakeClock()
    relay = Relay(bus, outbox, clock=clock)
    await relay.sweep()

    bus.refused.clear()
    clock.advance(PASSED_OVER_S)

    assert await relay.sweep() == 20


async def test_publishes_nothing_while_it_is_not_connected() -> None:
    bus, outbox = CountingPublisher(), FakeOutbox(*a_crowd(3, EVENTS))

    assert await Relay(bus, outbox, connected=lambda: False).sweep() == 0
    assert bus.asked == 0


async def test_keeps_what_it_was_handed_until_it_is_connected() -> None:
    connected = False
    bus, outbox = RecordingPublisher(), FakeOutbox(an_entry(1, EVENTS))
    relay, stop = Relay(bus, outbox, connected=lambda: connected), asyncio.Event()
    running = asyncio.create_task(relay.run(stop))
    relay.hand_in(outbox.entries[1])
    await asyncio.sleep(0.05)
    early = list(bus.published)

    connected = True
    await wait_until(lambda: not outbox.entries)

    assert early == []
    stop.set()
    await running


async def test_leaves_its_rows_to_others_when_it_ends_without_a_connection() -> None:
    bus, outbox = RecordingPublisher(), FakeOutbox(an_entry(1, EVENTS))
    relay, stop = Relay(bus, outbox, connected=lambda: False), asyncio.Event()
    relay.hand_in(outbox.entries[1])
    stop.set()

    await asyncio.wait_for(relay.run(stop), 60)

    assert list(outbox.entries) == [1]


async def test_what_it_keeps_in_memory_is_bounded() -> None:
    relay = Relay(RecordingPublisher(), FakeOutbox(), connected=lambda: False)
    huge = Entry(1, [Outgoing(EVENTS, b"x" * MAX_BACKLOG_BYTES, "1")])

    relay.hand_in(huge)
    for entry in a_crowd(10, EVENTS, first=2):
        relay.hand_in(entry)
    by_bytes = len(relay._waiting)
    other = Relay(RecordingPublisher(), FakeOutbox(), connected=lambda: False)
    for entry in a_crowd(MAX_BACKLOG + 10, EVENTS):
        other.hand_in(entry)

    assert by_bytes == 1
    assert len(other._waiting) == MAX_BACKLOG


class CountingPublisher(RecordingPublisher):
    asked = 0

    async def publish_many(self, messages: Sequence[Outgoing]) -> list[PubAck | OctarmError]:
        self.asked += len(messages)
        return await super().publish_many(messages)


class TestLiveness:
    async def run_to_its_death(self, relay: Relay) -> None:
        relay.hand_in(an_entry(1, "small"))
        running = asyncio.create_task(relay.run(asyncio.Event()))
        await wait_until(lambda: not relay.healthy())
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    async def test_fails_when_a_bug_ends_the_publishing(self) -> None:
        class Broken(RecordingPublisher):
            async def publish_many(self, _: object) -> list[PubAck | OctarmError]:
                raise ZeroDivisionError

        await self.run_to_its_death(Relay(Broken(), FakeOutbox()))

    async def test_fails_when_a_bug_ends_the_forgetting(self) -> None:
        class Broken(FakeOutbox):
            async def delete(self, seqs: Sequence[int]) -> None:
                raise ZeroDivisionError

        with contextlib.suppress(ZeroDivisionError):
            await self.run_to_its_death(Relay(RecordingPublisher(), Broken()))

    async def test_holds_to_an_ordinary_stop(self) -> None:
        relay, stop = Relay(RecordingPublisher(), FakeOutbox()), asyncio.Event()
        stop.set()

        await relay.run(stop)

        assert relay.healthy()
