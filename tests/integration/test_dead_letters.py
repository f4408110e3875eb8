"""Dead letters on a real nats-server: buried once, looked through, sent back, thrown away."""

import asyncio
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from nats.aio.client import Client as NATS
from nats.js import JetStreamContext
from nats.js.errors import BadRequestError

from octarm.common.bus import delivery as settling
from octarm.common.bus import runner, topology
from octarm.common.bus.connection import connect
from octarm.common.bus.dead_letter_box import DeadLetterBox, Handled, StoredLetter, Wanted
from octarm.common.bus.dead_letters import DeadLetters
from octarm.common.bus.delivery import ACK, Dead, Delivery, Outcome
from octarm.common.bus.letters import LETTER
from octarm.common.bus.publisher import Outgoing, Publisher
from octarm.common.telemetry import metrics
from octarm.models.errors import Unavailable
from octarm.models.subjects import DEAD_LETTER, DISPATCH, DLQ, RUN_TASKS
from tests.support.letters import a_delivery
from tests.support.wait import wait_until

pytestmark = pytest.mark.integration

SUBJECT = RUN_TASKS.at(arm_id="one")
DURABLE = topology.arm_durable("one")


@dataclass
class Bus:
    nc: NATS
    js: JetStreamContext
    publisher: Publisher
    box: DeadLetterBox

    async def left(self, stream: str = DISPATCH) -> int:
        return (await self.js.stream_info(stream)).state.messages

    async def is_empty(self) -> bool:
        return await self.left() == 0

    async def letters(self, after: int = 0, **wanted: Any) -> list[StoredLetter]:
        until = await self.box.last_seq()
        async with aclosing(self.box.find(Wanted(**wanted), after=after, until=until)) as found:
            return [stored async for stored in found]

    async def bury(self, *bodies: bytes, origin: str = DURABLE, reason: str = "bad") -> None:
        dead = DeadLetters(self.publisher, origin)
        for number, body in enumerate(bodies):
            await dead.bury(a_delivery(body, subject=SUBJECT, seq=number + 1), reason)

    @asynccontextmanager
    async def running(self, handle: runner.Handler, batch: int = 500) -> AsyncGenerator[None, None]:
        stop, consumer = asyncio.Event(), runner.ConsumerRef(DISPATCH, DURABLE)
        pull = runner.PullRunner(self.nc, self.publisher, consumer, handle, batch=batch)
        task = asyncio.create_task(pull.run(stop))
        try:
            yield
        finally:
            stop.set()
            await task


@dataclass
class Handling:
    """Remembers what it handled; `bad` raises a bug, `dead` is a dead letter."""

    seen: list[str] = field(default_factory=list)
    broken: bool = True

    async def __call__(self, batch: list[Delivery]) -> Sequence[Outcome]:
        texts = [delivery.data.decode() for delivery in batch]
        if self.broken and "bad" in texts:
            raise ValueError("a bug")
        self.seen += texts
        return [Dead("hopeless") if self.broken and text == "dead" else ACK for text in texts]


@pytest.fixture
async def bus(nats_url: str) -> AsyncGenerator[Bus, None]:
    nc = await connect(nats_url, name="test")
    js = nc.jetstream()
    await topology.provision(js)
    await topology.ensure_arm_consumer(js, "one")
    # The arm alone reads here, so what it has acknowledged is gone.
    await js.delete_consumer(DISPATCH, topology.ORCHESTRATOR_DISPATCH)
    publisher = Publisher(nc, timeout_s=2)
    try:
        yield Bus(nc, js, publisher, DeadLetterBox(nc, publisher))
    finally:
        await publisher.close()
        await nc.close()


class TestBurying:
    async def test_a_crasher_dies_once_while_its_neighbours_are_handled(
        self, bus: Bus, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(settling, "FIRST_PAUSE_S", 0.0001)
        handling = Handling()
        texts = [*[f"a{n}" for n in range(20)], "bad", *[f"b{n}" for n in range(20)]]
        for text in texts:
            await bus.publisher.publish(Outgoing(SUBJECT, text.encode(), text))

        async with bus.running(handling, batch=8):
            await wait_until(lambda: len(handling.seen) == 40)
            await wait_until(bus.is_empty)

        (stored,) = await bus.letters()
        assert sorted(handling.seen) == sorted(set(texts) - {"bad"})
        assert stored.letter.deliveries == 6
        assert "six times" in stored.letter.reason

    async def test_a_death_whose_last_word_was_lost_leaves_one_letter(self, bus: Bus) -> None:
        settled: list[bytes] = []
        dead = DeadLetters(bus.publisher, DURABLE)

        for deliveries in (6, 7):
            delivery = a_delivery(subject=SUBJECT, deliveries=deliveries, settled=settled)
            await dead.bury(delivery, "bad")

        assert settled == [b"+TERM", b"+TERM"]
        assert await bus.left(DLQ) == 1

    async def test_is_put_off_while_the_letter_cannot_be_stored(self, bus: Bus) -> None:
        await bus.js.delete_stream(DLQ)
        settled: list[bytes] = []

        await DeadLetters(bus.publisher, DURABLE).bury(a_delivery(settled=settled), "bad")

        assert settled[0].startswith(b"-NAK")

    async def test_a_message_as_large_as_the_bus_takes_is_kept_as_far_as_it_fits(
        self, bus: Bus
    ) -> None:
        largest = bus.nc.max_payload - 200

        await bus.bury(b"x" * largest, os.urandom(largest), os.urandom(largest - 5000))

        assert [one.letter.kept for one in await bus.letters()] == ["zlib", "cut", "whole"]

    @pytest.mark.bad_input(26)
    @pytest.mark.parametrize(
        ("headers", "why"),
        [
            ({}, "it has no Nats-Msg-Id"),
            ({"Nats-Msg-Id": "x", "KV-Operation": "PURGE"}, "it carries the header KV-Operation"),
        ],
    )
    @pytest.mark.bad_input(26)
    async def test_quarantines_what_no_publisher_of_ours_has_sent(
        self, bus: Bus, headers: dict[str, str], why: str
    ) -> None:
        handling = Handling()
        await bus.js.publish(SUBJECT, b"forged", headers=dict(headers) or None)

        async with bus.running(handling):
            await bus.publisher.publish(Outgoing(SUBJECT, b"good", "good"))
            await wait_until(lambda: handling.seen)
            await wait_until(bus.is_empty)

        (stored,) = await bus.letters()
        assert stored.letter.reason == f"quarantined: {why}"
        assert handling.seen == ["good"]
        alarm = f'octarm_bus_quarantined_total{{consumer="{DURABLE}"}}'
        assert alarm in metrics.exposition().decode()

    @pytest.mark.bad_input(26)
    async def test_a_header_that_would_schedule_a_message_is_not_even_stored(
        self, bus: Bus
    ) -> None:
        headers = {"Nats-Msg-Id": "x", "Nats-Scheduler": "y"}

        with pytest.raises(BadRequestError):
            await bus.js.publish(SUBJECT, b"forged", headers=headers)

        assert await bus.is_empty()


class TestLooking:
    async def test_finds_by_origin_reason_and_place(self, bus: Bus) -> None:
        await bus.bury(b"1", b"2", reason="not JSON")
        await bus.bury(b"3", origin="memory-remember-task", reason="no tenant")

        assert [one.seq for one in await bus.letters()] == [1, 2, 3]
        assert [one.seq for one in await bus.letters(origin=DURABLE)] == [1, 2]
        assert [one.seq for one in await bus.letters(reason="TENANT")] == [3]
        assert [one.seq for one in await bus.letters(after=1)] == [2, 3]
        assert await bus.letters(origin="nobody") == []
        assert await bus.letters(origin="*") == []
        assert await bus.letters(origin="no body\r\n>") == []
        infos = await bus.js.consumers_info(DLQ)
        assert infos == []

    async def test_reads_no_payloads_for_the_list_and_all_of_one(self, bus: Bus) -> None:
        await bus.bury("ä\0".encode() * 50_000)

        (listed,) = await bus.letters()
        whole = await bus.box.get(1)

        assert listed.body == b""
        assert whole is not None
        assert whole.body == "ä\0".encode() * 50_000
        assert await bus.box.get(2) is None

    async def test_reads_past_what_is_no_letter_and_one_of_the_first_version(
        self, bus: Bus
    ) -> None:
        old = (
            b'{"origin":"arm-run-one","subject":"s","stream_seq":1,"deliveries":6,"published_at":'
            b'"2026-11-21T12:00:00Z","reason":"old","size_bytes":3,"first_bytes":"e25v"}'
        )
        for number, (body, headers) in enumerate([(b"{}", {}), (old, {}), (b"", {LETTER: "{"})]):
            subject = DEAD_LETTER.format(origin="arm-run-one")
            headers = headers | {"Nats-Msg-Id": str(number)}
            await bus.js.publish(subject, body, headers=headers)

        (stored,) = await bus.letters()
        assert (stored.seq, stored.letter.reason) == (2, "old")
        (refused,) = await bus.box.redrive([2])
        assert (refused.outcome, "too large" in refused.reason) == ("failed", True)

    async def test_says_that_the_stream_is_missing(self, bus: Bus) -> None:
        await bus.js.delete_stream(DLQ)

        with pytest.raises(Unavailable):
            await bus.box.last_seq()


class TestActing:
    async def test_sends_back_what_was_there_and_takes_it_out(self, bus: Bus) -> None:
        handling = Handling()
        head = b"traceparent: 00-a-b-01\r\n"
        await bus.publisher.publish(Outgoing(SUBJECT, b"dead", "m", head))
        async with bus.running(handling):
            await wait_until(lambda: bus.left(DLQ))
            await wait_until(bus.is_empty)

            handling.broken = False
            (handled,) = await bus.box.redrive([1])
            await wait_until(lambda: handling.seen == ["dead", "dead"])

        assert handled == Handled(1, "done")
        assert await bus.letters() == []
        assert await bus.box.redrive([1]) == [Handled(1, "gone")]

    async def test_a_crash_between_publishing_and_taking_out_repeats_nothing(
        self, bus: Bus, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await bus.bury(b"good")

        async def dies(_: object, seq: int) -> Handled:
            return Handled(seq, "failed", "killed here")

        with monkeypatch.context() as patched:
            patched.setattr(DeadLetterBox, "_take_out", dies)
            (first,) = await bus.box.redrive([1])
        both = await asyncio.gather(bus.box.redrive([1]), bus.box.redrive([1]))

        assert first.outcome == "failed"
        assert {one.outcome for (one,) in both} <= {"done", "gone"}
        assert await bus.left() == 1
        assert await bus.letters() == []

    async def test_throws_away_for_good(self, bus: Bus) -> None:
        await bus.bury(b"1", b"2", b"3")

        handled = await bus.box.drop([1, 3, 3, 9])

        assert [one.outcome for one in handled] == ["done", "done", "gone"]
        assert [one.seq for one in await bus.letters()] == [2]
