"""uvicorn inside our own process lifecycle: who owns the signals is `octarm.common.service`."""

import asyncio
import contextlib
import socket
import uuid
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from octarm.models.errors import Unavailable, Unparsable

BACKLOG = 2048
KEEP_ALIVE_S = 75


class _Protocol(HttpToolsProtocol):
    def send_400_response(self, msg: str) -> None:
        """Say in our words that the bytes are no HTTP request, and hang up."""
        error = Unparsable("these bytes are not an HTTP/1.1 request", "Send HTTP/1.1.")
        correlation_id = uuid.uuid4().hex
        body = error.problem(correlation_id=correlation_id).model_dump_json(exclude_none=True)
        head = (
            "HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\n"
            f"x-correlation-id: {correlation_id}\r\ncontent-length: {len(body.encode())}\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body.encode())
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


async def serve(
    app: ASGIApp, listener: socket.socket, stop: asyncio.Event, *, drain_s: float
) -> None:
    """Serve until `stop`, then take no more, finish what is in hand for `drain_s` at most."""
    config = uvicorn.Config(
        app,
        http=_Protocol,
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
