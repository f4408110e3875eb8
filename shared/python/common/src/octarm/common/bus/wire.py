"""The one place that goes below the client's public interface, for what is hot.

`Client.publish` checks, encodes and hands over one message at a time; a window of hundreds
written at once costs about a third. The client is pinned by the lock file, and the bus tests
run on this path.
"""

import asyncio
import re
from collections.abc import Callable
from typing import Any, Final

from nats.aio.client import Client as NATS
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import ConnectionClosedError, OutboundBufferLimitError
from nats.errors import Error as NatsError
from nats.protocol.parser import AWAITING_CONTROL_LINE

ROUND_TRIP_S: Final = 2

_PLAIN: Final = b"NATS/1.0\r\n"
_MESSAGE: Final = re.compile(rb"(H)?MSG (\S+) (\d+) (?:(\S+) )??(?(1)(\d+) )(\d+)\r\n")
_SUBJECT: Final = re.compile(r"[^\s*>\0]{1,512}")


def is_subject(text: str) -> bool:
    """Tell whether a message may be published there: one word and no wildcard."""
    return _SUBJECT.fullmatch(text) is not None


def publication(subject: str, body: bytes) -> bytes:
    """Give the command that publishes a body without headers, for `write_commands`."""
    return b"PUB %b %d\r\n%b\r\n" % (subject.encode(), len(body), body)


async def write_commands(nc: NATS, commands: bytes) -> None:
    """Put protocol commands into the connection's buffer and have it flushed.

    Raises:
        ConnectionClosedError: the connection will not come back.
        OutboundBufferLimitError: it is away and its buffer is full.
    """
    if nc.is_closed:
        raise ConnectionClosedError
    if not nc.is_connected and len(commands) + nc.pending_data_size > nc._max_pending_size:
        raise OutboundBufferLimitError
    if write_at_once(nc, commands):
        return
    await nc._send_command(commands)
    if nc._flush_queue is not None and nc._flush_queue.empty():
        await nc._flush_pending()


def write_at_once(nc: NATS, commands: bytes, *, behind: int = 0) -> bool:
    """Write protocol commands if no more than `behind` bytes wait for the socket; else nothing.

    Waiting for the flusher's task to wake costs a turn of the loop. A writer that is behind is
    left to the flusher, which waits for it.
    """
    if not nc.is_connected or nc._pending:
        return False
    writer: asyncio.StreamWriter | None = getattr(nc._transport, "_io_writer", None)
    if writer is None or writer.is_closing():
        return False
    if writer.transport.get_write_buffer_size() > behind:
        return False
    writer.write(commands)
    return True


async def take_no_more(nc: NATS, subscription: Subscription) -> None:
    """Unsubscribe once what is on its way has come; a server that is gone will send nothing."""
    if not nc.is_connected:
        return
    try:
        async with asyncio.timeout(ROUND_TRIP_S):
            await subscription.drain()  # type: ignore[no-untyped-call]
    except (TimeoutError, NatsError):
        # Or the client would subscribe again on its next connection.
        nc._remove_sub(subscription._id)


def read_headers(block: bytes) -> dict[str, str]:
    """Read a header block without a status line; of a name that comes twice the last counts."""
    headers: dict[str, str] = {}
    for line in block[len(_PLAIN) : -4].decode("utf-8", "replace").split("\r\n"):
        name, found, value = line.partition(":")
        if found:
            headers[name.strip()] = value.strip()
    return headers


def with_fast_headers(nc: NATS) -> NATS:
    """Let a connection read plain headers at once; the client walks them letter by letter."""
    slowly = nc._process_headers

    async def process(block: bytes | None) -> dict[str, str] | None:
        if block and block.startswith(_PLAIN):
            return read_headers(block) or None
        return await slowly(block)

    nc._process_headers = process  # type: ignore[method-assign,assignment]
    return nc


class _AtOnce(asyncio.Queue[Any]):
    """In place of a subscription's queue: hands messages on where they are read.

    The client wakes a task of the subscription for each message. That costs a turn of the loop,
    which a chain of messages between processes pays at every link.
    """

    def __init__(self, nc: NATS, subscription: Subscription, hear: Callable[[Msg], None]) -> None:
        super().__init__()
        self._nc = nc
        self._subscription = subscription
        self._hear = hear
        self._failing: set[asyncio.Task[None]] = set()

    def put_nowait(self, item: Msg) -> None:
        # It came by the client's own reader: perhaps over a new connection.
        _read_at_once(self._nc)
        self._subscription._pending_size = 0
        self.hand_on(item)

    def hand_on(self, item: Msg) -> None:
        try:
            self._hear(item)
        except Exception as error:  # noqa: BLE001 - or it would end the connection's read loop
            failing = asyncio.ensure_future(self._nc._error_cb(error))
            self._failing.add(failing)
            failing.add_done_callback(self._failing.discard)

    def task_done(self) -> None:
        """Nothing is ever pending here; a message that came before may still be finished."""


class _Reader:
    """Takes messages for `listen` out of what the socket has read, before the client's reader.

    That one wakes a task for the bytes, copies them twice and calls a coroutine in a coroutine for
    each message: a third of what a hop costs. It still gets, in order, all that is not a whole
    message for such a subscription, and everything while it has not read what it got before.
    """

    def __init__(self, nc: NATS, stream: Any) -> None:
        self._nc = nc
        self._stream = stream
        self._feed = stream.feed_data

    def feed_data(self, data: bytes) -> None:
        """Hand on what is at the beginning, and leave the rest to the client."""
        at = self._taken(data) if self._is_idle() else 0
        if at < len(data):
            self._feed(data[at:] if at else data)

    def _is_idle(self) -> bool:
        waiter: asyncio.Future[None] | None = getattr(self._stream, "_waiter", None)
        parser = self._nc._ps
        return (
            waiter is not None
            and not waiter.done()
            and not parser.buf
            and parser.state == AWAITING_CONTROL_LINE
        )

    def _taken(self, data: bytes) -> int:
        at = 0
        while (found := _MESSAGE.match(data, at)) is not None:
            _, subject, number, reply, head, size = found.groups()
            begin, sid = found.end(), int(number)
            end, body = begin + int(size), begin + int(head or 0)
            subscription = self._nc._subs.get(sid)
            if subscription is None or subscription._max_msgs or end + 2 > len(data):
                break
            queue = subscription._pending_queue
            if not isinstance(queue, _AtOnce):
                break
            headers = None
            if head:
                if not data.startswith(_PLAIN, begin):
                    break
                headers = read_headers(data[begin:body]) or None
            at = end + 2
            subscription._received += 1
            self._nc.stats["in_msgs"] += 1
            self._nc.stats["in_bytes"] += end - body
            text = data[body:end]
            queue.hand_on(self._nc._build_message(sid, subject, reply or b"", text, headers))
        return at


def _read_at_once(nc: NATS) -> None:
    stream: Any = getattr(nc._transport, "_io_reader", None)
    if stream is not None and "feed_data" not in vars(stream):
        stream.feed_data = _Reader(nc, stream).feed_data


async def listen(
    nc: NATS, subject: str, hear: Callable[[Msg], None], *, queue: str = ""
) -> Subscription:
    """Subscribe with a callback that is called at once for each message, in order.

    Who names the same `queue` shares the messages.

    It must be quick, as nothing else of the connection is read meanwhile; what it raises goes
    to the connection's error callback.
    """

    async def heard(msg: Msg) -> None:
        hear(msg)

    subscription = await nc.subscribe(
        subject, queue, cb=heard, pending_msgs_limit=1_000_000, pending_bytes_limit=0
    )
    if isinstance(subscription, Subscription):
        subscription._pending_queue = _AtOnce(nc, subscription, hear)
        _read_at_once(nc)
    return subscription
