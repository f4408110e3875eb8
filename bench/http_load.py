"""A small keep-alive HTTP client that can load a gateway; bounded in count."""

import asyncio
import json
import time
from urllib.parse import urlsplit

CONNECTIONS = 64


async def accepts_per_s(url: str, n: int) -> float:
    """Submit `n` tasks over HTTP, one a request; gives accepted requests a second.

    Raises:
        RuntimeError: an answer was not 202.
    """
    parts = urlsplit(url)
    body = json.dumps(
        {"goal": "do nothing", "required_capabilities": ["noop"], "context": {"n": 1}}
    ).encode()
    head = (
        f"POST /v1/tasks HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    request = head.encode() + body
    left = iter(range(n))

    async def client() -> None:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            for _ in left:
                writer.write(request)
                answer = await reader.readuntil(b"\r\n\r\n")
                if not answer.startswith(b"HTTP/1.1 202"):
                    raise RuntimeError(answer.decode(errors="replace"))
                lower = answer.lower()
                start = lower.index(b"content-length:") + 15
                await reader.readexactly(int(lower[start : lower.index(b"\r", start)]))
        finally:
            writer.close()

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(CONNECTIONS)))
    return n / (time.perf_counter() - started)
