"""A collector of traces that takes what it gets and counts it: a process of its own.

What a real one does with spans is no cost of ours; it would run on another machine. This one
shares the cores of what is measured, so it reads into the same memory again and looks for one
pattern: keeping what came would cost more than sending it.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread
from typing import ClassVar

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n"
FLAGS = b"\x85\x01\x00\x03\x00\x00"
"""Field 16 of a span whose parent is remote: each of ours has it once."""


@contextmanager
def sink() -> Iterator[tuple[str, int, Callable[[], int]]]:
    """Give its URL, its process, and what ends it and tells how many spans came."""
    command = [sys.executable, "-m", "bench.sink"]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        try:
            yield url, process.pid, lambda: int(process.communicate("\n")[0])
        finally:
            process.kill()


class Taking(StreamRequestHandler):
    """One process's connection."""

    spans: ClassVar[list[int]] = []

    def handle(self) -> None:
        """Count the spans of each request until the other side goes."""
        room = bytearray()
        while length := self._length():
            room.extend(bytes(max(0, length - len(room))))
            with memoryview(room) as there:
                self.rfile.readinto(there[:length])
            self.spans.append(room.count(FLAGS, 0, length))
            self.wfile.write(ANSWER)

    def _length(self) -> int:
        """Read a request's head; gives the length of its body, 0 at the end."""
        length = 0
        while line := self.rfile.readline().strip().lower():
            name, _, value = line.partition(b":")
            if name == b"content-length":
                length = int(value)
        return length


def serve() -> None:
    """Listen until a line comes on stdin; then say how many spans have come."""
    ThreadingTCPServer.daemon_threads = True
    with ThreadingTCPServer(("127.0.0.1", 0), Taking) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
        sys.stdin.readline()
        server.shutdown()
    print(sum(Taking.spans))


if __name__ == "__main__":
    serve()
