"""The history of tasks, read from the EVENTS stream, and what passes on core NATS."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import anyio
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError

from octarm.common.bus.task_history import (
    PlacedEvent,
    events_in,
    events_subject,
    read_task_events,
    stream_seq,
)
from octarm.common.cancelling import end
from octarm.common.telemetry import get_logger
from octarm.gateway.usecases.ports import PassingChunk, StoredEvent
from octarm.models.errors import Unavailable
from octarm.models.hot_types import NOT_UNDERSTOOD
from octarm.models.subjects import CHUNK, COMPLETED, EVENTS, STOPPED

# What waits for a slow reader; past it chunks are dropped and events stay in the stream.
BUFFERED: Final = 64
MAX_CHUNK_BYTES: Final = 64 * 1024
CLEANUP_S: Final = 5.0

log = get_logger()


@dataclass(frozen=True, slots=True)
class BusTaskEvents:
    """Reads task events over a connection that somebody else closes."""

    nc: Client

    async def verb_at(self, place: int, task_id: str) -> str | None:
        """Give the verb of a task's event at a place, None when it is not kept (any more).

        Raises:
            Unavailable: the stream does not answer.
        """
        try:
            message = await self.nc.jetstream().get_msg(EVENTS, stream_seq(place))
        except NotFoundError:
            return None
        except (NatsError, TimeoutError) as error:
            raise Unavailable(f"{EVENTS} does not answer: {error}", retry_after_s=1) from error
        try:
            found = events_in(message.data or b"", seq=message.seq or 0, task_id=task_id)
        except NOT_UNDERSTOOD:
            return None
        return next((event.verb for event in found if event.place == place), None)

    async def kept_since(self) -> datetime | None:
        """Say from when on the stream keeps events, None when it is empty.

        Raises:
            Unavailable: the stream does not answer.
        """
        js = self.nc.jetstream()
        try:
            first = (await js.stream_info(EVENTS)).state.first_seq
            return (await js.get_msg(EVENTS, first)).time
        except NotFoundError:
            return None
        except (NatsError, TimeoutError) as error:
            raise Unavailable(f"{EVENTS} does not answer: {error}", retry_after_s=1) from error

    @asynccontextmanager
    async def follow(
        self, tenant: str, task_id: str, *, after: int, since: datetime
    ) -> AsyncIterator[AsyncIterator[StoredEvent | PassingChunk]]:
        """Give the events behind a place, in order and without a gap, then new ones.

        Nothing was told before `since`. Chunks come in between and may be lost. Leaving the
        block frees everything.
        """
        feed = _Feed()
        chunks = await self.nc.subscribe(CHUNK.at(task_id=task_id), cb=feed.chunk)
        reading = read_task_events(
            self.nc, tenant, task_id, after=after, since=since, interrupted=_interrupted
        )
        reader = asyncio.create_task(feed.read(reading))
        try:
            yield feed
        finally:
            # Shielded: for a client that is gone every further await is cancelled again.
            with anyio.move_on_after(CLEANUP_S, shield=True), suppress(NatsError):
                await chunks.unsubscribe()
            with anyio.move_on_after(CLEANUP_S, shield=True):
                await end(reader)

    @asynccontextmanager
    async def endings(self, tenant: str, task_id: str) -> AsyncIterator[asyncio.Event]:
        """Give a flag that is raised when the task may have ended; a hint, it can be lost."""
        ended = asyncio.Event()

        async def heard(message: Msg) -> None:
            if task_id.encode() in message.data:
                ended.set()

        subscriptions = [
            await self.nc.subscribe(events_subject(tenant, task_id, what=what), cb=heard)
            for what in (COMPLETED, STOPPED)
        ]
        try:
            # Only what is published after the server knows of us can be heard.
            with suppress(NatsError, TimeoutError):
                await self.nc.flush(1)
            yield ended
        finally:
            for subscription in subscriptions:
                with suppress(NatsError):
                    await subscription.unsubscribe()


class _Feed:
    """Merges the events of a task with its chunks, in one bounded queue."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[StoredEvent | PassingChunk] = asyncio.Queue(BUFFERED)

    def __aiter__(self) -> "_Feed":
        return self

    async def __anext__(self) -> StoredEvent | PassingChunk:
        return await self._queue.get()

    async def chunk(self, message: Msg) -> None:
        """Take a chunk, or drop it when the reader is too slow or it is too large to keep."""
        if len(message.data) > MAX_CHUNK_BYTES:
            return
        with suppress(asyncio.QueueFull):
            self._queue.put_nowait(PassingChunk(message.data))

    async def read(self, reading: AsyncGenerator[PlacedEvent, None]) -> None:
        """Take in events until cancelled."""
        async with aclosing(reading) as events:
            async for event in events:
                await self._queue.put(StoredEvent(event.place, event.verb, event.body))


def _interrupted(error: Exception) -> None:
    log.warning("event_consumer_lost", error=str(error) or type(error).__name__)
