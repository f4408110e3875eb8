"""A publisher whose stream stays silent, is replicated, or refuses a second copy."""

import asyncio
from collections.abc import AsyncGenerator, Callable

import pytest
from nats.aio.client import Client as NATS
from nats.aio.msg import Msg

from octarm.common.bus import publisher as module
from octarm.common.bus.connection import connect
from octarm.common.bus.publisher import (
    Fence,
    Fenced,
    Outgoing,
    PubAck,
    Publisher,
    Unacknowledged,
)
from tests.support.wait import wait_until

pytestmark = pytest.mark.integration

SUBJECT = "octarm.v1.test.stream"
STORED = b'{"stream":"S","seq":%d}'
REFUSED = b'{"error":{"code":%d,"err_code":%d,"description":"refused"},"stream":"S","seq":0}'
NO_STREAM = b""


@pytest.fixture
async def nc(nats_url: str) -> AsyncGenerator[NATS, None]:
    connection = await connect(nats_url, name="test")
    try:
        yield connection
    finally:
        await connection.close()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AGAIN_AFTER_S", 0.1)


class Stream:
    """Answers each message by what `answer` makes of how many came before; None is silence."""

    def __init__(self, answer: Callable[[int], bytes | None]) -> None:
        self.ids: list[str] = []
        self._answer = answer

    async def take(self, msg: Msg) -> None:
        assert msg.headers is not None
        self.ids.append(msg.headers["Nats-Msg-Id"])
        if (answer := self._answer(len(self.ids) - 1)) is not None:
            await msg.respond(answer)


async def publish(nc: NATS, stream: Stream, *messages: Outgoing) -> list[module.Answer]:
    await nc.subscribe(SUBJECT, cb=stream.take)
    await nc.flush()
    publisher = Publisher(nc, timeout_s=0.5)
    try:
        return await publisher.publish_many(messages)
    finally:
        await publisher.close()


def silent_at_first(then: bytes) -> Stream:
    return Stream(lambda before: then if before else None)


async def test_what_nobody_acknowledged_is_sent_once_more(nc: NATS) -> None:
    stream = silent_at_first(STORED % 7)

    answers = await publish(nc, stream, Outgoing(SUBJECT, b"x", "one"))

    assert answers == [PubAck("S", 7, False)]
    assert stream.ids == ["one", "one"]


async def test_is_not_sent_again_over_another_connection(nc: NATS) -> None:
    first = Stream(lambda _: None)
    await nc.subscribe(SUBJECT, cb=first.take)
    await nc.flush()
    publisher = Publisher(nc, timeout_s=0.5)

    publishing = asyncio.create_task(publisher.publish_many([Outgoing(SUBJECT, b"x", "one")]))
    await wait_until(lambda: first.ids)
    await nc.force_reconnect()
    (answer,) = await publishing
    await publisher.close()

    assert isinstance(answer, Unacknowledged)
    assert first.ids == ["one"]


async def test_is_sent_no_third_time(nc: NATS) -> None:
    stream = Stream(lambda _: None)

    (answer,) = await publish(nc, stream, Outgoing(SUBJECT, b"x", "one"))

    assert isinstance(answer, Unacknowledged)
    assert stream.ids == ["one", "one"]


@pytest.mark.parametrize(
    "refusal",
    [NO_STREAM, REFUSED % (503, 10077), REFUSED % (400, 10164)],
    ids=["no-stream", "full", "fence-in-use"],
)
async def test_the_refusal_of_a_copy_leaves_the_first_in_doubt(nc: NATS, refusal: bytes) -> None:
    (answer,) = await publish(nc, silent_at_first(refusal), Outgoing(SUBJECT, b"x", "one"))

    assert isinstance(answer, Unacknowledged)


async def test_a_copy_finds_its_fence_fallen(nc: NATS) -> None:
    stream = silent_at_first(REFUSED % (400, 10071))

    (answer,) = await publish(nc, stream, Outgoing(SUBJECT, b"x", "one", fence=Fence("f", 1)))

    assert isinstance(answer, Fenced)


async def test_a_copy_of_what_is_being_stored_is_in_doubt(nc: NATS) -> None:
    stream = Stream(lambda _: REFUSED % (409, 10158))

    (answer,) = await publish(nc, stream, Outgoing(SUBJECT, b"x", "one"))

    assert isinstance(answer, Unacknowledged)


async def test_goes_in_turn_where_a_stream_stores_one_message_behind_a_fence_at_a_time(
    nc: NATS,
) -> None:
    free, seq = asyncio.Event(), 0
    free.set()

    async def replicated(msg: Msg) -> None:
        nonlocal seq
        if not free.is_set():
            await msg.respond(REFUSED % (400, 10164))
            return
        free.clear()
        seq += 1
        stored = STORED % seq

        async def agreed() -> None:
            await asyncio.sleep(0.005)
            free.set()
            await msg.respond(stored)

        agreements.append(asyncio.create_task(agreed()))

    agreements: list[asyncio.Task[None]] = []
    await nc.subscribe(SUBJECT, cb=replicated)
    await nc.flush()
    publisher = Publisher(nc, timeout_s=2)
    fence = Fence("f", 1)

    first = await publisher.publish_many(
        [Outgoing(SUBJECT, b"x", f"a{n}", fence=fence) for n in range(5)]
    )
    second = await publisher.publish_many(
        [Outgoing(SUBJECT, b"x", f"b{n}", fence=fence) for n in range(5)]
    )
    await publisher.close()

    assert all(isinstance(answer, PubAck) for answer in first + second)
    assert [answer.seq for answer in second if isinstance(answer, PubAck)] == [6, 7, 8, 9, 10]
