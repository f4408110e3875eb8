"""Loopback ports: finding a free one, asking who answers on one."""

import asyncio
import socket

LOOPBACK = "127.0.0.1"
_ANSWER_TIMEOUT_S = 2.0


def free_port() -> int:
    """A TCP port of the loopback address that nobody listens on right now.

    Another process may take it before the caller does; whoever starts a server on it must check
    that the answering server is its own.
    """
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def is_free(port: int) -> bool:
    """Whether a server could listen on `port` of the loopback address now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


async def ask(port: int, request: bytes = b"", *, after: bytes) -> bytes:
    """Send `request` and give the rest of the line in which the answer first says `after`.

    Raises:
        OSError: nobody listens, or no answer came in 2 s.
        asyncio.IncompleteReadError: the answer ended without it.
    """
    async with asyncio.timeout(_ANSWER_TIMEOUT_S):  # its TimeoutError is an OSError
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        try:
            writer.write(request)
            await reader.readuntil(after)
            return await reader.readline()
        finally:
            writer.close()
            await writer.wait_closed()
