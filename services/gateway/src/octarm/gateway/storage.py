"""The history of tasks, read from the EVENTS stream, and what passes on core NATS."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

import anyio
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError

from octarm.common.bus.history import read_stream
from octarm.common.telemetry import get_logger
from octarm.gateway.usecases.ports import PassingChunk, StoredEvent
from octarm.models.errors import Unavailable
from octarm.models.events import TERMINAL_VERBS
from octarm.models.subjects import CHUNK, EVENTS, TASK_EVENT

# What waits for a slow reader; past it chunks are dropped and events stay in the stream.
BUFFERED: Final = 256
CLEANUP_S: Final = 5.0
_VERB: Final = TASK_EVENT.template.split(".").index("{verb}")

log = get_logger()


@dataclass(frozen=True, slots=True)
class BusTaskEvents:
    """Reads task events over a connection that somebody else closes."""

    nc: Client

    async def newest(self, tenant: str, task_id: str) -> tuple[int, str] | None:
        """Give sequence and verb of the newest event that is kept of a task, None for none.

        Raises:
            Unavailable: the stream does not answer.
        """
        subject = TASK_EVENT.matching(tenant=tenant, task_id=task_id)
        try:
            last = await self.nc.jetstream().get_last_msg(EVENTS, subject)
        except NotFoundError:
            return None
        except (NatsError, TimeoutError) as error:
            raise Unavailable(f"{EVENTS} does not answer: {error}", retry_after_s=1) from error
        return last.seq or 0, _verb_in(last.subject or "")

    @asynccontextmanager
    async def follow(
        self, tenant: str, task_id: str, *, after: int
    ) -> AsyncIterator[AsyncIterator[StoredEvent | PassingChunk]]:
        """Give the events after a sequence, in order and without a gap, then new ones.

        Chunks come in between and may be lost. Leaving the block frees everything.
        """
        feed = _Feed()
        subject = TASK_EVENT.matching(tenant=tenant, task_id=task_id)
        chunks = await self.nc.subscribe(CHUNK.at(task_id=task_id), cb=feed.chunk)
        reader = asyncio.create_task(feed.read(self.nc, subject, after=after))
        try:
            yield feed
        finally:
            # Shielded: for a client that is gone every further await is cancelled again.
            with anyio.move_on_after(CLEANUP_S, shield=True), suppress(NatsError):
                await chunks.unsubscribe()
            reader.cancel()
            with anyio.move_on_after(CLEANUP_S, shield=True):
                await asyncio.wait([reader])

    @asynccontextmanager
    async def endings(self, tenant: str, task_id: str) -> AsyncIterator[asyncio.Event]:
        """Give a flag that is raised when the task may have ended; a hint, it can be lost."""
        ended = asyncio.Event()

        async def heard(message: Msg) -> None:
            if _verb(message) in TERMINAL_VERBS:
                ended.set()

        subject = TASK_EVENT.matching(tenant=tenant, task_id=task_id)
        subscription = await self.nc.subscribe(subject, cb=heard)
        try:
            # Only what is published after the server knows of us can be heard.
            with suppress(NatsError, TimeoutError):
                await self.nc.flush(1)
            yield ended
        finally:
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
        """Take a chunk, or drop it when the reader is too slow."""
        with suppress(asyncio.QueueFull):
            self._queue.put_nowait(PassingChunk(message.data))

    async def read(self, nc: Client, subject: str, *, after: int) -> None:
        """Read the stream until cancelled."""
        reading = read_stream(nc, EVENTS, subject, after=after, interrupted=_interrupted)
        async with aclosing(reading) as messages:
            async for message in messages:
                seq = message.metadata.sequence.stream
                await self._queue.put(StoredEvent(seq, _verb(message), message.data))


def _interrupted(error: Exception) -> None:
    log.warning("event_consumer_lost", error=str(error) or type(error).__name__)


def _verb(message: Msg) -> str:
    return _verb_in(message.subject)


def _verb_in(subject: str) -> str:
    return subject.split(".")[_VERB]
