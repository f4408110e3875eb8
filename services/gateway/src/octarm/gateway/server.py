"""uvicorn inside our own process lifecycle: who owns the signals is `octarm.common.service`."""

import asyncio
import contextlib
import resource
import socket
import uuid
from collections.abc import Iterator
from http import HTTPStatus
from typing import Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from octarm.gateway.domain.problems import HeadTooLarge, TooSlow
from octarm.models.errors import OctarmError, Unavailable, Unparsable

BACKLOG = 2048
KEEP_ALIVE_S = 75
# The first byte of a connection, or of its next request, to the end of the head.
HEAD_S: Final = 10.0
MAX_HEAD_BYTES: Final = 64 * 1024
# File descriptors for everything but clients.
OWN_FILES: Final = 64


class _Protocol(HttpToolsProtocol):
    """HTTP/1.1 with bounds: connections, and the time and size of a request's head."""

    max_connections = 2_000
    _head_due: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _in_body = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            self._refuse(Unavailable("too many connections are open", retry_after_s=1))
        else:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._head_due is None and not self._in_body:
            self._expect_head()
        if self._head_due is not None:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._head_due is not None and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(HeadTooLarge(f"the head of a request may have {MAX_HEAD_BYTES} bytes"))

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        self._in_body = True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_body = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Say in our words that the bytes are no HTTP request, and hang up."""
        self._refuse(Unparsable("these bytes are not an HTTP/1.1 request", "Send HTTP/1.1."))

    def _expect_head(self) -> None:
        self._head_bytes = 0
        self._head_due = self.loop.call_later(HEAD_S, self._head_is_late)

    def _stop_waiting(self) -> None:
        if self._head_due is not None:
            self._head_due.cancel()
            self._head_due = None

    def _head_is_late(self) -> None:
        self._head_due = None
        self._refuse(TooSlow(f"the head of the request took more than {HEAD_S:g} s"))

    def _refuse(self, error: OctarmError) -> None:
        self._stop_waiting()
        if self.transport.is_closing():
            return
        correlation_id = uuid.uuid4().hex
        problem = error.problem(correlation_id=correlation_id)
        body = problem.model_dump_json(exclude_none=True).encode()
        again = f"retry-after: {error.retry_after_s}\r\n" if error.retry_after_s else ""
        head = (
            f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}\r\n{again}"
            "content-type: application/problem+json\r\n"
            f"x-correlation-id: {correlation_id}\r\ncontent-length: {len(body)}\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


def listen(host: str, port: int) -> socket.socket:
    """Open the listening socket.

    Raises:
        Unavailable: the address is taken, or none of ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise Unavailable(
            f"cannot listen on {host}:{port}: {error.strerror}",
            "Choose another port with OCTARM_HTTP_PORT.",
        ) from error
    listener.setblocking(False)
    return listener


def _bounded(max_connections: int) -> type[_Protocol]:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = max_connections if files < 0 else max(1, min(max_connections, files - OWN_FILES))
    return type("Protocol", (_Protocol,), {"max_connections": most})


async def serve(
    app: ASGIApp,
    listener: socket.socket,
    stop: asyncio.Event,
    *,
    drain_s: float,
    max_connections: int = 2_000,
) -> None:
    """Serve until `stop`, then take no more, finish what is in hand for `drain_s` at most.

    More than `max_connections` at a time, or than the process may have files, are refused.
    """
    config = uvicorn.Config(
        app,
        http=_bounded(max_connections),
        loop="none",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, round(drain_s)),
    )
    server = _Server(config)

    async def watch() -> None:
        await stop.wait()
        server.should_exit = True

    watcher = asyncio.create_task(watch())
    try:
        await server.serve(sockets=[listener])
    finally:
        watcher.cancel()
