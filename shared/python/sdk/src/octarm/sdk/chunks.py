"""Pieces of output on core NATS, in order, sent without anybody waiting."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from octarm.models.subjects import CHUNK

MAX_WAITING: Final = 10_000

_encode = msgspec.json.Encoder().encode


class Chunks:
    """Sends chunks one after another; while the bus is slow the oldest of 10,000 give way.

    `send(subject, payload)` publishes on core NATS.
    """

    def __init__(self, send: Callable[[str, bytes], Awaitable[None]]) -> None:
        self._send = send
        self._waiting: deque[tuple[str, bytes]] = deque(maxlen=MAX_WAITING)
        self._sending: asyncio.Task[None] | None = None

    def put(self, task_id: str, attempt: int, seq: int, text: str) -> None:
        """Send a chunk soon."""
        payload = {"task_id": task_id, "attempt": attempt, "seq": seq, "text": text}
        self._waiting.append((CHUNK.at(task_id=task_id), _encode(payload)))
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._run())

    async def flushed(self) -> None:
        """Return once nothing waits."""
        if self._sending is not None:
            await self._sending

    async def _run(self) -> None:
        while self._waiting:
            await self._send(*self._waiting.popleft())
