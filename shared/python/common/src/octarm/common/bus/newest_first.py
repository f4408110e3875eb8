"""Answers to what many may ask at the same moment, given to those who still wait."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final, TypeVar

from nats.aio.client import Client as NATS
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from pydantic import BaseModel

from octarm.common.bus.requests import NO_PARAMETERS, reply_of
from octarm.common.bus.wire import listen, take_no_more
from octarm.common.clock import Clock
from octarm.common.telemetry import metrics
from octarm.models.subjects import Query

M = TypeVar("M", bound=BaseModel)
R = TypeVar("R", bound=BaseModel)

AT_ONCE: Final = 32
# Our clients wait for five seconds; the answer takes its time too.
PATIENCE_S: Final = 4.0
MAX_WAITING: Final = 10_000
MAX_BYTES: Final = 64 * 1024 * 1024


class NewestFirst:
    """Answers the newest request first, `AT_ONCE` side by side.

    Who asked more than four seconds ago has stopped waiting and asks again: that request is
    dropped. In the order of arrival a storm would be answered too late, request by request, for as
    long as all ask again. Of more than 10,000 that wait, or 64 MiB, the oldest are dropped.
    """

    def __init__(
        self, nc: NATS, query: Query[M, R], handler: Callable[[M], Awaitable[R]], *, clock: Clock
    ) -> None:
        self._nc = nc
        self._query = query
        self._handler = handler
        self._clock = clock
        self._waiting: deque[tuple[float, Msg]] = deque()
        self._bytes = 0
        self._working: set[asyncio.Task[None]] = set()
        self._subscription: Subscription | None = None

    async def open(self, *, queue: str, at: Mapping[str, str | int] = NO_PARAMETERS) -> None:
        """Begin to answer; replicas share a `queue` group."""
        subject = self._query.at(**at)
        self._subscription = await listen(self._nc, subject, self.hear, queue=queue)

    async def close(self) -> None:
        """Take nothing more and answer what waits."""
        if self._subscription is not None and not self._nc.is_closed:
            await take_no_more(self._nc, self._subscription)
        while self._working:
            await asyncio.wait(self._working)

    def hear(self, msg: Msg) -> None:
        """Take a request; returns at once."""
        self._waiting.append((self._clock.monotonic(), msg))
        self._bytes += len(msg.data)
        while len(self._waiting) > MAX_WAITING or self._bytes > MAX_BYTES:
            self._bytes -= len(self._waiting.popleft()[1].data)
            metrics.inc("octarm_bus_stale_requests_total")
        if len(self._working) < AT_ONCE:
            task = asyncio.create_task(self._work())
            self._working.add(task)
            task.add_done_callback(self._working.discard)

    async def _work(self) -> None:
        while self._waiting:
            asked_at, msg = self._waiting.pop()
            self._bytes -= len(msg.data)
            if self._clock.monotonic() - asked_at > PATIENCE_S:
                # Those below it have waited for longer.
                stale = 1 + len(self._waiting)
                self._waiting.clear()
                self._bytes = 0
                metrics.inc("octarm_bus_stale_requests_total", stale)
                return
            reply = await reply_of(self._handle, msg.data, self._query.template)
            with suppress(NatsError, OSError):
                await self._nc.publish(msg.reply, reply)

    async def _handle(self, body: bytes) -> bytes:
        found = await self._handler(self._query.asks.model_validate_json(body))
        return found.model_dump_json().encode()
