"""A collector of traces that takes what it gets and reads it at the end: a process of its own.

What a real one does with spans is no cost of ours; it would run on another machine.
"""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n"


@contextmanager
def sink() -> Iterator[tuple[str, Callable[[], int]]]:
    """Give its URL, and what ends it and tells how many spans came."""
    command = [sys.executable, "-m", "bench.sink"]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        try:
            yield url, lambda: int(process.communicate("\n")[0])
        finally:
            process.kill()


async def serve() -> None:
    """Listen until a line comes on stdin; then say how many spans have come."""
    bodies: list[bytes] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await _head(reader):
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
            bodies.append(await reader.readexactly(length))
            writer.write(ANSWER)
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    server.close()
    print(sum(map(_spans, bodies)))


def _spans(body: bytes) -> int:
    request = ExportTraceServiceRequest.FromString(body)
    return sum(len(scope.spans) for one in request.resource_spans for scope in one.scope_spans)


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


if __name__ == "__main__":
    asyncio.run(serve())
