"""Connections of the simulated bus: what nats-py believes to be TCP."""

import asyncio
import itertools
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import ParseResult

import nats.aio.client
from nats.aio.transport import Transport

from tests.simulation.timeline import PROCESS, VirtualLoop

if TYPE_CHECKING:
    from tests.simulation.bus import SimBus

URL: Final = "nats://bus.invalid:4222"
LATENCY_S: Final = 0.0005


class Link:
    """Both directions of one connection; bytes arrive in order, a moment later."""

    def __init__(self, bus: "SimBus", transport: "SimTransport") -> None:
        self.bus = bus
        self.transport = transport
        self.process = PROCESS.get()
        self.open = True
        self.arrives = True
        self.stalled_until = 0.0
        self.mute_until = 0.0
        self.unread = b""
        self._up: list[bytes] = []
        self._down: list[bytes] = []

    def to_server(self, data: bytes) -> None:
        """Send from the client."""
        if not self._up:
            self._schedule(self._arrive_up, max(self.stalled_until, self.mute_until))
        self._up.append(data)

    def to_client(self, data: bytes) -> None:
        """Send from the server."""
        if not self._down:
            self._schedule(self._arrive_down, self.stalled_until)
        self._down.append(data)

    def _schedule(self, arrive: Any, not_before: float) -> None:
        loop = self.bus.loop
        wait_s = max(not_before - loop.now_s, 0.0)
        loop.later(wait_s + self.bus.chances.delay_s(LATENCY_S), arrive)

    def _arrive_up(self) -> None:
        data, self._up = b"".join(self._up), []
        if self.arrives:
            self.bus.receive(self, data)

    def _arrive_down(self) -> None:
        data, self._down = b"".join(self._down), []
        if self.open:
            self.transport.feed(data)

    def drop(self) -> None:
        """Break the connection: what is under way in either direction is lost."""
        if self.open:
            self.arrives = False
            self._up = []
            self.close()

    def close(self) -> None:
        """End it from the client's side: what was sent before still arrives, however late."""
        if self.open:
            self.open = False
            self._down = []
            self.bus.forget(self)
            self.transport.feed_eof()


class SimTransport(Transport):
    """The transport of one client."""

    def __init__(self, bus: "SimBus") -> None:
        self._bus = bus
        self._link: Link | None = None
        self._arrived = bytearray()
        self._reader: asyncio.Future[None] | None = None
        self._eof = False

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: int) -> None:
        """Connect; refused while the server is away."""
        await asyncio.sleep(LATENCY_S)
        self._arrived.clear()
        self._eof = False
        self._link = self._bus.accept(self)
        process = PROCESS.get()
        if process is not None:
            process.closing.append(self._link.close)

    async def connect_tls(
        self, uri: str | ParseResult, ssl_context: Any, buffer_size: int, connect_timeout: int
    ) -> None:
        """There is no TLS here."""
        raise NotImplementedError

    def feed(self, data: bytes) -> None:
        """Take what the server has sent."""
        self._arrived += data
        self._wake()

    def feed_eof(self) -> None:
        """Take that the connection is gone."""
        self._eof = True
        self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def write(self, payload: bytes) -> None:
        """Send."""
        if self._link is not None and self._link.open and payload:
            self._link.to_server(bytes(payload))

    def writelines(self, payload: list[bytes]) -> None:
        """Send all."""
        self.write(b"".join(payload))

    async def _wait(self) -> None:
        self._reader = asyncio.get_running_loop().create_future()
        await self._reader

    async def read(self, buffer_size: int) -> bytes:
        """Give what has arrived; empty at the end."""
        while not self._arrived and not self._eof:
            await self._wait()
        data = bytes(self._arrived)
        self._arrived.clear()
        return data

    async def readline(self) -> bytes:
        """Give one line."""
        while b"\n" not in self._arrived and not self._eof:
            await self._wait()
        line, newline, rest = bytes(self._arrived).partition(b"\n")
        self._arrived[:] = rest
        return line + newline

    async def drain(self) -> None:
        """Give way once; raise when the connection is gone."""
        if self._link is None or not self._link.open:
            raise ConnectionResetError("the connection is gone")

    async def wait_closed(self) -> None:
        """It is closed at once."""

    def close(self) -> None:
        """Close from this side."""
        if self._link is not None:
            self._link.close()

    def at_eof(self) -> bool:
        """Whether nothing will come any more."""
        return self._eof and not self._arrived

    def __bool__(self) -> bool:
        return self._link is not None


class _Time:
    """The part of `time` that the client asks."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.monotonic = loop.time


@contextmanager
def plugged_in(bus: "SimBus") -> Generator[None, None, None]:
    """Let every nats-py connection of this thread meet the simulated server."""
    module: Any = nats.aio.client
    names = ("TcpTransport", "time", "token_hex")
    real = [getattr(module, name) for name in names]
    numbers = itertools.count()
    parts = (lambda: SimTransport(bus), _Time(bus.loop), lambda _: f"{next(numbers):x}")
    try:
        for name, part in zip(names, parts, strict=True):
            setattr(module, name, part)
        yield
    finally:
        for name, part in zip(names, real, strict=True):
            setattr(module, name, part)
