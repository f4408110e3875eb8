"""One connection to Redis for what is hot: many calls under way at once, answered as they are read.

`redis-py` borrows a connection for each call, reads it line by line and starts a timer; alone that
costs more than Redis does. It still makes the connection (address, user, TLS) and closes it with
its pool; this module reads and writes it. The client is pinned by the lock file.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from redis.asyncio import Redis
from redis.asyncio.connection import Connection
from redis.exceptions import ConnectionError as Lost
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as Late

TIMEOUT_S: Final = 1.0
Part = bytes | str | int
Tell = Callable[[Any], None]


class _Short(Exception):
    """The rest of an answer is still on its way."""


class _Call(NamedTuple):
    answer: "asyncio.Future[Any] | Tell"
    since: float


class RedisLink:
    """Calls Redis over a connection that it opens when it is first needed, and after a loss.

    `lost` is called when the server ends the connection, also while nothing is under way: whoever
    relies on what Redis had cannot know whether it is the same one that answers next.
    """

    def __init__(self, redis: Redis, *, lost: Callable[[Exception], None]) -> None:
        self._pool: Any = redis.connection_pool
        self._timeout_s = float(self._pool.connection_kwargs.get("socket_timeout") or TIMEOUT_S)
        self._lost = lost
        self._opening = asyncio.Lock()
        self._wire: _Wire | None = None

    async def call(self, *parts: Part) -> Any:
        """Send a command; gives its answer, a map as a list of names and values by turns.

        Raises:
            ResponseError: Redis refuses.
            RedisError: no connection, or no answer within the client's `socket_timeout`; it may
                have been carried out.
        """
        wire = self._wire
        if wire is None or wire.ended:
            wire = await self._opened()
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        wire.send(_command(parts), answer)
        found = await answer
        if isinstance(found, ResponseError):
            raise found
        return found

    def begin(self, tell: Tell, *parts: Part) -> bool:
        """Send a command and have `tell` called where the answer is read, without a task.

        What it is told may be a `RedisError`; it must be quick. False: there is no connection
        now, `call` opens one.
        """
        wire = self._wire
        if wire is None or wire.ended:
            return False
        wire.send(_command(parts), tell)
        return True

    async def _opened(self) -> "_Wire":
        async with self._opening:
            if self._wire is not None and not self._wire.ended:
                return self._wire
            connection = await self._pool.get_connection()
            try:
                wire = _Wire(connection, self._timeout_s, self._lost)
            except BaseException:
                await self._pool.release(connection)
                raise
            if self._wire is not None:
                await self._pool.release(self._wire.connection)
            self._wire = wire
            return wire


class _Wire(asyncio.Protocol):
    """The bytes of one connection; answers come in the order of the calls."""

    def __init__(
        self, connection: Connection, timeout_s: float, lost: Callable[[Exception], None]
    ) -> None:
        writer = connection._writer
        if writer is None:
            raise Lost("the connection is closed")
        self.connection = connection
        self.ended = False
        self._timeout_s = timeout_s
        self._lost = lost
        self._buffer = b""
        self._calls: deque[_Call] = deque()
        self._watch: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._transport: Any = writer.transport
        # Who closes the connection waits for this one to be told.
        self._before: Any = self._transport.get_protocol()
        self._transport.set_protocol(self)

    def send(self, command: bytes, answer: "asyncio.Future[Any] | Tell") -> None:
        self._calls.append(_Call(answer, time.monotonic()))
        self._transport.write(command)
        if self._watch is None:
            self._watch = self._loop.call_later(self._timeout_s, self._look)

    def _look(self) -> None:
        """See to it that the oldest call does not wait for ever: one timer for all."""
        self._watch = None
        if not self._calls:
            return
        left_s = self._calls[0].since + self._timeout_s - time.monotonic()
        if left_s <= 0:
            self._end(Late("Redis does not answer"))
        else:
            self._watch = self._loop.call_later(left_s, self._look)

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        at = 0
        try:
            while at < len(self._buffer):
                is_news = self._buffer[at] == _PUSH
                value, at = _read(self._buffer, at)
                if not is_news:
                    self._tell(value)
        except _Short:
            pass
        except (ValueError, IndexError) as error:
            self._end(Lost(f"not an answer of Redis: {error}"))
            return
        self._buffer = self._buffer[at:]

    def _tell(self, value: Any) -> None:
        answer = self._calls.popleft().answer
        if not isinstance(answer, asyncio.Future):
            self._tell_at_once(answer, value)
        elif not answer.done():
            answer.set_result(value)

    def _tell_at_once(self, tell: Tell, value: Any) -> None:
        try:
            tell(value)
        except Exception as error:  # noqa: BLE001 - the calls behind it have their answers to come
            self._loop.call_exception_handler(
                {"message": "an answer of Redis was not taken", "exception": error}
            )

    def eof_received(self) -> None:
        self._end(Lost("Redis has ended the connection"))

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self._end(Lost(str(exc)))
        self.ended = True
        self._fail(Lost("the connection is closed"))
        self._before.connection_lost(exc)

    def pause_writing(self) -> None:
        """Go on: the number of calls under way is bounded by those who make them."""

    def resume_writing(self) -> None:
        """Nobody has waited."""

    def _end(self, error: RedisError) -> None:
        if self.ended:
            return
        self.ended = True
        self._fail(error)
        self._lost(error)
        self._transport.abort()

    def _fail(self, error: RedisError) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        while self._calls:
            answer = self._calls.popleft().answer
            if not isinstance(answer, asyncio.Future):
                self._tell_at_once(answer, error)
            elif not answer.done():
                answer.set_exception(error)


def _command(parts: tuple[Part, ...]) -> bytes:
    pieces = [b"*%d\r\n" % len(parts)]
    for part in parts:
        if isinstance(part, int):
            part = b"%d" % part
        elif isinstance(part, str):
            part = part.encode()
        pieces.append(b"$%d\r\n%b\r\n" % (len(part), part))
    return b"".join(pieces)


_BULK, _NUMBER, _TEXT, _ERROR, _PUSH = b"$:+->"
_LISTS: Final = {ord("*"): 1, ord("~"): 1, _PUSH: 1, ord("%"): 2}
_NOTHING: Final = ord("_")
# Of fewer nothing is gained; what is behind is copied, so it must not be much.
_WORTH_IT: Final = 4
_MAX_CUT: Final = 128 * 1024


def _read_texts(data: bytes, at: int, count: int) -> tuple[list[bytes], int] | None:
    """Read so many texts at one go, in a third of the time; None when they are not so plain.

    Cut at the ends of lines they are a length and a text by turns, unless a text has such an end.
    """
    if not count >= _WORTH_IT or len(data) - at > _MAX_CUT or data[at : at + 1] != b"$":
        return None
    parts = data[at:].split(b"\r\n", 2 * count)
    texts = parts[1:-1:2]
    if len(texts) != count or parts[:-1:2] != [b"$%d" % len(text) for text in texts]:
        return None
    return texts, len(data) - len(parts[-1])


def _read(data: bytes, at: int) -> tuple[Any, int]:
    """Read one answer of RESP 2 or 3; gives it and where the next one begins."""
    end = data.find(b"\r\n", at)
    if end < 0:
        raise _Short
    kind, behind = data[at], end + 2
    if kind == _BULK:
        size = int(data[at + 1 : end])
        if size < 0:
            return None, behind
        if len(data) < behind + size + 2:
            raise _Short
        return data[behind : behind + size], behind + size + 2
    if kind == _NUMBER:
        return int(data[at + 1 : end]), behind
    if kind in _LISTS:
        count = int(data[at + 1 : end]) * _LISTS[kind]
        if (found := _read_texts(data, behind, count)) is not None:
            return found
        values = []
        for _ in range(count):
            value, behind = _read(data, behind)
            values.append(value)
        return values, behind
    if kind == _TEXT:
        return data[at + 1 : end], behind
    if kind == _ERROR:
        return ResponseError(data[at + 1 : end].decode(errors="replace")), behind
    if kind == _NOTHING:
        return None, behind
    raise ValueError(f"an answer of the kind {chr(kind)!r}")
