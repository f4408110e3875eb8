"""The bus on a real nats-server: publisher, runner, dead letters, leadership."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from nats.aio.client import Client as NATS
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.kv import KeyValue

from octarm.common.bus import topology
from octarm.common.bus.connection import connect
from octarm.common.bus.delivery import ACK, HELD, Dead, Delivery, Outcome, Retry
from octarm.common.bus.headers import encode_headers
from octarm.common.bus.leadership import Leadership
from octarm.common.bus.letters import read_letter
from octarm.common.bus.publisher import Outgoing, PubAck, Publisher
from octarm.common.bus.runner import ConsumerRef, Handler, PullRunner
from octarm.common.telemetry import metrics
from octarm.models.errors import (
    Backpressure,
    InvalidRequest,
    PayloadTooLarge,
    Unavailable,
)
from octarm.models.subjects import DISPATCH, DLQ, RUN_TASKS
from tests.support.wait import wait_until

pytestmark = pytest.mark.integration

SUBJECT = RUN_TASKS.at(arm_id="one")
CONSUMER = ConsumerRef(DISPATCH, topology.arm_durable("one"))


@dataclass
class Bus:
    nc: NATS
    js: JetStreamContext
    publisher: Publisher

    async def put(self, *bodies: str) -> None:
        for body in bodies:
            await self.publisher.publish(Outgoing(SUBJECT, body.encode(), f"id-{body}"))

    async def left(self, stream: str = DISPATCH) -> int:
        return (await self.js.stream_info(stream)).state.messages

    async def is_empty(self) -> bool:
        return await self.left() == 0

    @asynccontextmanager
    async def running(
        self,
        handle: Handler,
        *,
        batch: int = 500,
        capacity: Callable[[], int] | None = None,
    ) -> AsyncGenerator[PullRunner, None]:
        stop = asyncio.Event()
        runner = PullRunner(
            self.nc, self.publisher, CONSUMER, handle, batch=batch, capacity=capacity
        )
        task = asyncio.create_task(runner.run(stop))
        try:
            yield runner
        finally:
            stop.set()
            await task


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
        yield Bus(nc, js, publisher)
    finally:
        await publisher.close()
        await nc.close()


class Recording:
    """A handler that remembers what it saw and answers by the message's text."""

    def __init__(self, **outcomes: Outcome | Exception) -> None:
        self.seen: list[str] = []
        self.batches: list[int] = []
        self.outcomes = outcomes

    async def __call__(self, batch: list[Delivery]) -> Sequence[Outcome]:
        self.batches.append(len(batch))
        texts = [delivery.data.decode() for delivery in batch]
        for text in texts:
            error = self.outcomes.get(text)
            if isinstance(error, Exception):
                raise error
        self.seen += texts
        answers = [self.outcomes.get(text, ACK) for text in texts]
        return [answer for answer in answers if not isinstance(answer, Exception)]


async def test_connects_to_the_next_server_of_a_cluster_when_the_first_is_away(
    nats_url: str,
) -> None:
    connection = await connect(f"nats://127.0.0.1:1, {nats_url}", name="test")

    assert connection.is_connected
    await connection.close()


class TestPublisher:
    async def test_stores_one_message_id_once(self, bus: Bus) -> None:
        message = Outgoing(SUBJECT, b"x", "same")

        answers = await bus.publisher.publish_many([message] * 3)

        acks = [answer for answer in answers if isinstance(answer, PubAck)]
        assert [ack.duplicate for ack in acks] == [False, True, True]
        assert await bus.left() == 1

    async def test_answers_in_order_over_several_windows(self, bus: Bus) -> None:
        messages = [Outgoing(SUBJECT, b"%d" % i, f"n-{i}") for i in range(1500)]

        answers = await bus.publisher.publish_many(messages)

        assert [a.seq for a in answers if isinstance(a, PubAck)] == list(range(1, 1501))

    async def test_says_that_no_stream_takes_a_subject(self, bus: Bus) -> None:
        with pytest.raises(Unavailable, match="provision"):
            await bus.publisher.publish(Outgoing("octarm.v1.nowhere", b"", "x"))

    async def test_turns_a_full_stream_into_backpressure(self, bus: Bus) -> None:
        config = (await bus.js.stream_info(DISPATCH)).config
        config.max_msgs = 1
        await bus.js.update_stream(config)
        await bus.put("first")

        with pytest.raises(Backpressure) as refused:
            await bus.put("second")

        assert refused.value.code == "QUEUE_FULL"

    @pytest.mark.parametrize("subject", ["a.*", "a.>", "a b", "a\r\nPUB x 0", "", "a\0b"])
    async def test_publishes_nothing_on_a_subject_that_is_none(
        self, bus: Bus, subject: str
    ) -> None:
        with pytest.raises(InvalidRequest):
            await bus.publisher.publish(Outgoing(subject, b"", "x"))

    async def test_publishes_nothing_under_an_id_that_breaks_the_line(self, bus: Bus) -> None:
        with pytest.raises(InvalidRequest):
            await bus.publisher.publish(Outgoing(SUBJECT, b"", "a\r\nNats-Rollup: all"))

    async def test_refuses_what_the_server_would_not_take(self, bus: Bus) -> None:
        with pytest.raises(PayloadTooLarge):
            await bus.publisher.publish(Outgoing(SUBJECT, bytes(bus.nc.max_payload + 1), "x"))

    @pytest.mark.bad_input(7, 26)
    async def test_lets_no_header_command_the_server(self, bus: Bus) -> None:
        head = encode_headers(
            {
                "Nats-Rollup": "all",
                " nats-msg-id": "forged",
                "KV-Operation": "PURGE",
                "x\r\nNats-Rollup": "all",
                "fine": "a\r\nNats-Rollup: all",
            }
        )

        await bus.publisher.publish(Outgoing(SUBJECT, b"", "x", head))

        stored = await bus.js.get_msg(DISPATCH, seq=1)
        headers = stored.headers or {}
        assert headers["Nats-Msg-Id"] == "x"
        assert headers["fine"] == "a  Nats-Rollup: all"
        assert {"Nats-Rollup", "KV-Operation", "nats-msg-id"}.isdisjoint(headers)

    async def test_headers_arrive_as_they_were_sent(self, bus: Bus) -> None:
        sent = {"ce-type": "a: b", "traceparent": "00-1-2-01", "umlaut": "ä", "empty": ""}
        subscription = await bus.nc.subscribe(SUBJECT)

        await bus.publisher.publish(Outgoing(SUBJECT, b"", "x", encode_headers(sent)))

        message = await subscription.next_msg()
        assert message.headers == {"Nats-Msg-Id": "x", **sent}

    async def test_gives_up_in_time_when_the_connection_is_closed(self, nats_url: str) -> None:
        nc = await connect(nats_url, name="closing")
        publisher = Publisher(nc, timeout_s=1)
        await nc.close()

        with pytest.raises(Unavailable):
            await publisher.publish(Outgoing(SUBJECT, b"", "x"))


class TestPullRunner:
    async def test_handles_each_message_and_leaves_nothing(self, bus: Bus) -> None:
        handler = Recording()
        await bus.put(*(str(i) for i in range(50)))

        async with bus.running(handler):
            await bus.put("later")
            await wait_until(lambda: len(handler.seen) == 51)

        assert await bus.left() == 0

    async def test_delivers_a_retry_again_and_not_before_its_time(self, bus: Bus) -> None:
        handler = Recording(again=Retry(0.3))
        loop = asyncio.get_running_loop()

        async with bus.running(handler):
            await bus.put("again")
            await wait_until(lambda: handler.seen)
            first = loop.time()
            await wait_until(lambda: len(handler.seen) == 2)

        assert loop.time() - first >= 0.25

    async def test_buries_a_dead_message_once_with_its_reason(self, bus: Bus) -> None:
        handler = Recording(bad=Dead("it makes no sense"))

        async with bus.running(handler):
            await bus.put("bad")
            await wait_until(lambda: handler.seen)
            await wait_until(lambda: bus.left(DLQ))
            await wait_until(bus.is_empty)

        letter = read_letter((await bus.js.get_msg(DLQ, seq=1)).headers or {}, b"")
        assert letter is not None
        assert (letter.reason, letter.subject) == ("it makes no sense", SUBJECT)
        assert await bus.left(DLQ) == 1

    async def test_poison_does_not_take_its_neighbours_along(self, bus: Bus) -> None:
        handler = Recording(poison=ValueError("a bug"))
        await bus.put("a", "poison", "b")

        async with bus.running(handler):
            await wait_until(lambda: sorted(handler.seen) == ["a", "b"])

        assert await bus.left() == 1

    async def test_hands_back_everything_when_a_dependency_is_away(self, bus: Bus) -> None:
        handler = Recording(x=Unavailable("Postgres is away", retry_after_s=1))
        await bus.put("x")

        async with bus.running(handler):
            await wait_until(lambda: handler.batches)
            handler.outcomes = {}
            await wait_until(lambda: handler.seen == ["x"])

        assert await bus.left() == 0

    async def test_takes_no_more_than_its_capacity(self, bus: Bus) -> None:
        free = 2
        held: list[Delivery] = []

        async def hold(batch: list[Delivery]) -> Sequence[Outcome]:
            nonlocal free
            free -= len(batch)
            held.extend(batch)
            return [HELD] * len(batch)

        await bus.put("a", "b", "c")
        async with bus.running(hold, capacity=lambda: free) as runner:
            await wait_until(lambda: len(held) == 2)
            info = await bus.js.consumer_info(DISPATCH, CONSUMER.durable)
            assert info.num_pending == 1
            free += 1
            held[0].ack()
            runner.wake()
            await wait_until(lambda: len(held) == 3)
            for delivery in held:
                delivery.ack()
            await wait_until(bus.is_empty)

    async def test_hands_back_what_it_did_not_begin(self, bus: Bus) -> None:
        entered = asyncio.Event()
        leave = asyncio.Event()

        async def slow(batch: list[Delivery]) -> Sequence[Outcome]:
            entered.set()
            await leave.wait()
            return [ACK] * len(batch)

        await bus.put("a", "b", "c", "d")
        async with bus.running(slow, batch=2):
            await entered.wait()
            asyncio.get_running_loop().call_later(0.1, leave.set)

        handler = Recording()
        async with bus.running(handler):
            await wait_until(lambda: len(handler.seen) == 2)
        assert await bus.left() == 0

    async def test_goes_on_when_its_consumer_is_made_anew(self, bus: Bus) -> None:
        handler = Recording()

        async with bus.running(handler) as runner:
            await bus.put("before")
            await wait_until(lambda: handler.seen == ["before"])
            await bus.js.delete_consumer(DISPATCH, CONSUMER.durable)
            await topology.ensure_arm_consumer(bus.js, "one")
            await bus.put("after")
            await wait_until(lambda: handler.seen == ["before", "after"], timeout_s=20)
            assert runner.healthy()


class DeafBucket:
    """A bucket whose renewals arrive, while no answer to them does."""

    def __init__(self, bucket: KeyValue) -> None:
        self._bucket = bucket
        self.deaf = True
        self.create, self.get, self.delete = bucket.create, bucket.get, bucket.delete

    async def update(self, key: str, value: bytes, *, last: int) -> int:
        revision = await self._bucket.update(key, value, last=last)
        if self.deaf:
            raise TimeoutError
        return revision


class DeafBus:
    """A connection on which one finds that bucket."""

    def __init__(self, nc: NATS, bucket: DeafBucket) -> None:
        self._nc = nc
        self._bucket = bucket

    @property
    def is_connected(self) -> bool:
        return self._nc.is_connected

    def jetstream(self, **_: object) -> "DeafBus":
        return self

    async def key_value(self, _: str) -> DeafBucket:
        return self._bucket


class TestLeadership:
    async def test_passes_to_the_next_at_once_when_released(self, bus: Bus) -> None:
        told: list[str] = []

        def leading(name: str) -> Callable[[asyncio.Event], "asyncio.Future[None]"]:
            async def lead(lost: asyncio.Event) -> None:
                told.append(name)
                await lost.wait()

            return lead  # type: ignore[return-value]

        stops = {name: asyncio.Event() for name in "ab"}
        running = {}
        for name, stop in stops.items():
            leadership = Leadership(bus.nc, "shard-0", holder=name, ttl_s=2.0)
            running[name] = asyncio.create_task(leadership.run(stop, leading(name)))
            if name == "a":
                await wait_until(lambda: told == ["a"])

        stops["a"].set()
        await running["a"]
        await wait_until(lambda: told == ["a", "b"])
        stops["b"].set()
        await running["b"]

    async def test_ends_when_another_has_taken_the_lease(self, bus: Bus) -> None:
        lost_seen = asyncio.Event()

        async def lead(lost: asyncio.Event) -> None:
            await lost.wait()
            lost_seen.set()

        stop = asyncio.Event()
        leadership = Leadership(bus.nc, "shard-0", holder="a", ttl_s=2.0)
        running = asyncio.create_task(leadership.run(stop, lead))
        await wait_until(lambda: leadership.is_leader)
        bucket = await bus.js.key_value("octarm_leaders")
        await bucket.put("shard-0", b"b")

        await asyncio.wait_for(lost_seen.wait(), 60)
        stop.set()
        await running

    async def test_is_taken_again_at_once_by_whom_a_late_renewal_kept_it_for(
        self, bus: Bus
    ) -> None:
        bucket = DeafBucket(await bus.js.key_value("octarm_leaders"))
        began: list[float] = []

        async def lead(lost: asyncio.Event) -> None:
            began.append(asyncio.get_running_loop().time())
            await lost.wait()
            bucket.deaf = False

        stop = asyncio.Event()
        leadership = Leadership(DeafBus(bus.nc, bucket), "deaf", holder="a", ttl_s=2.0)  # type: ignore[arg-type]
        running = asyncio.create_task(leadership.run(stop, lead))
        await wait_until(lambda: len(began) == 2)
        stop.set()
        await running
        # Its renewals landed all along; waiting for the lease to end would have taken longer.
        assert began[1] - began[0] < topology.LEADER_TTL_S


async def test_is_behind_when_more_waits_than_a_batch_of_a_quiet_time(bus: Bus) -> None:
    begun, goes_on = asyncio.Event(), asyncio.Event()

    async def handle(batch: list[Delivery]) -> Sequence[Outcome]:
        begun.set()
        await goes_on.wait()
        return [ACK] * len(batch)

    async with bus.running(handle, batch=5) as runner:
        await bus.put("first")
        await begun.wait()
        await bus.put("second")
        little = runner.behind()
        await bus.put(*(f"{n:5000}" for n in range(4)))
        await wait_until(runner.behind)
        goes_on.set()
        await wait_until(bus.is_empty)

        assert not little
        assert not runner.behind()


async def test_provisioning_twice_changes_nothing(bus: Bus) -> None:
    before = {s.name: (await bus.js.stream_info(s.name)).config for s in topology.STREAMS}

    await topology.provision(bus.js)

    after = {s.name: (await bus.js.stream_info(s.name)).config for s in topology.STREAMS}
    assert after == before


async def test_refuses_another_cluster_and_an_address_where_nobody_answers(
    nats_url: str, unused_tcp_port: int
) -> None:
    with pytest.raises(Unavailable, match="not 'production'"):
        await connect(nats_url, name="test", expect_cluster="production")
    with pytest.raises(Unavailable, match="does not answer"):
        await connect(f"nats://u:secret@127.0.0.1:{unused_tcp_port}", name="test")


async def test_a_reader_that_is_too_slow_is_counted(nats_url: str) -> None:
    nc, done = await connect(nats_url, name="slow"), asyncio.Event()

    async def heard(_: Msg) -> None:
        await done.wait()

    try:
        await nc.subscribe("some.news", cb=heard, pending_msgs_limit=1)
        for _ in range(20):
            await nc.publish("some.news", b"")
        await wait_until(lambda: b"octarm_bus_slow_reader_total" in metrics.exposition())
    finally:
        done.set()
        await nc.close()
