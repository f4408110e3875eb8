"""Messages that are handed on where the socket is read: the same as by the client's own reader."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client as NATS
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from octarm.common.bus.wire import _AtOnce, _read_at_once, with_fast_headers

PLAIN = b"NATS/1.0\r\nNats-Msg-Id: r:1\r\ntraceparent: 00-1\r\n\r\n"
STATUS = b"NATS/1.0 503\r\n\r\n"


def a_message(subject: bytes, body: bytes, *, sid: int = 1, reply: bytes = b"") -> bytes:
    return b"MSG %b %d %b%d\r\n%b\r\n" % (subject, sid, reply and reply + b" ", len(body), body)


def with_headers(subject: bytes, head: bytes, body: bytes, *, reply: bytes = b"") -> bytes:
    sizes = len(head), len(head) + len(body)
    line = b"HMSG %b 1 %b%d %d\r\n" % (subject, reply and reply + b" ", *sizes)
    return line + head + body + b"\r\n"


SENT = (
    a_message(b"a", b"plain"),
    a_message(b"a", b"", reply=b"_INBOX.1"),
    a_message(b"5", b"MSG a 1 2\r\nno\r\n", reply=b"7"),
    with_headers(b"a", PLAIN, b"with headers"),
    with_headers(b"a", PLAIN, b"", reply=b"_INBOX.2"),
    with_headers(b"a", STATUS, b""),
    a_message(b"a", b"x" * 3_000),
    a_message(b"nobody", b"is there", sid=9),
    a_message(b"slow", b"by its own task", sid=2),
    b"PONG\r\n",
    b"+OK\r\n",
)
LAST = "last"
Heard = list[tuple[str, str, bytes, dict[str, str] | None]]


async def heard_of(pieces: Sequence[bytes], *, at_once: bool) -> tuple[Heard, dict[str, int]]:
    """Give what a client hears that reads these pieces, some of them before its task has woken."""
    heard: Heard = []
    over = asyncio.Event()

    def hear(msg: Msg) -> None:
        if msg.subject == LAST:
            over.set()
        heard.append((msg.subject, msg.reply, msg.data, msg.headers))

    nc: Any = with_fast_headers(NATS())
    stream = asyncio.StreamReader()
    nc._transport = SimpleNamespace(_io_reader=stream, read=stream.read, at_eof=stream.at_eof)
    for sid, subject in ((1, "a"), (2, "slow")):
        nc._subs[sid] = Subscription(nc, sid, subject)
    nc._subs[1]._pending_queue = _AtOnce(nc, nc._subs[1], hear)
    if at_once:
        _read_at_once(nc)
    else:
        nc._subs[1]._pending_queue.put_nowait = hear
    reading = asyncio.create_task(nc._read_loop())
    for number, piece in enumerate(pieces):
        if number % 3:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        stream.feed_data(piece)
    await over.wait()
    reading.cancel()
    return heard, nc.stats


@given(
    st.lists(st.sampled_from(SENT), min_size=1, max_size=12),
    st.lists(st.integers(1, 4_000), max_size=12),
)
def test_the_same_is_heard_however_the_bytes_come(sent: list[bytes], cuts: list[int]) -> None:
    data, pieces = b"".join([*sent, a_message(LAST.encode(), b"")]), []
    for cut in cuts:
        pieces.append(data[:cut])
        data = data[cut:]
    pieces = [piece for piece in [*pieces, data] if piece]

    assert asyncio.run(heard_of(pieces, at_once=True)) == asyncio.run(
        heard_of(pieces, at_once=False)
    )


async def test_what_comes_whole_waits_for_no_task() -> None:
    heard: list[bytes] = []
    nc: Any = NATS()
    stream = asyncio.StreamReader()
    nc._transport = SimpleNamespace(_io_reader=stream, read=stream.read, at_eof=stream.at_eof)
    nc._subs[1] = subscription = Subscription(nc, 1, "a")
    nc._subs[1]._pending_queue = _AtOnce(nc, subscription, lambda msg: heard.append(msg.data))
    _read_at_once(nc)
    reading = asyncio.create_task(nc._read_loop())
    await asyncio.sleep(0)

    stream.feed_data(a_message(b"a", b"1") + with_headers(b"a", PLAIN, b"2"))

    assert heard == [b"1", b"2"]
    reading.cancel()


@pytest.mark.parametrize("data", [SENT[0], SENT[3]])
async def test_what_raises_does_not_stop_the_messages_behind_it(data: bytes) -> None:
    heard: list[bytes] = []
    told: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

    def hear(msg: Msg) -> None:
        heard.append(msg.data)
        if len(heard) == 1:
            raise ValueError("not this one")

    async def tell(error: Exception) -> None:
        told.set_result(error)

    nc: Any = NATS()
    nc._error_cb = tell
    stream = asyncio.StreamReader()
    nc._transport = SimpleNamespace(_io_reader=stream, read=stream.read, at_eof=stream.at_eof)
    nc._subs[1] = subscription = Subscription(nc, 1, "a")
    nc._subs[1]._pending_queue = _AtOnce(nc, subscription, hear)
    _read_at_once(nc)
    reading = asyncio.create_task(nc._read_loop())
    await asyncio.sleep(0)

    stream.feed_data(data + data)

    assert len(heard) == 2
    assert str(await told) == "not this one"
    reading.cancel()
