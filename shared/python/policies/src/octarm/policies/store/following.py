"""Following the state: told by a watcher, and by looking now and then."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from nats.errors import Error as NatsError
from nats.js.kv import KeyValue

from octarm.policies.book import Book
from octarm.policies.store.bucket import Bucket

LOOK_AGAIN_S: Final = 10.0

OnChange = Callable[[Book], Awaitable[None]]


class Following:
    """Calls with each new book; remembers the last one that the call took."""

    def __init__(
        self, bucket: Bucket, look: Callable[[], Awaitable[Book]], on_change: OnChange
    ) -> None:
        self._bucket = bucket
        self._look = look
        self._on_change = on_change
        self._seen: Book | None = None

    async def run(self) -> None:
        """Follow until the watcher is found blind.

        Raises:
            OctarmError: the bus does not answer, or the call has failed.
        """
        watcher = await self._bucket.watcher()
        try:
            told = True
            while True:
                book = await self._look()
                _end_if_cancelled()
                if book != self._seen:
                    await self._on_change(book)
                    self._seen = book
                    if not told:
                        return
                told = await _told(watcher)
        finally:
            # A closed connection must not hide what ended this.
            with suppress(NatsError, OSError):
                await watcher.stop()  # type: ignore[no-untyped-call]


async def _told(watcher: KeyValue.KeyWatcher) -> bool:
    """Wait until the watcher tells of a change, or it is time to look."""
    try:
        async with asyncio.timeout(LOOK_AGAIN_S):
            await anext(watcher)
    except (TimeoutError, StopAsyncIteration):
        return False
    return True


def _end_if_cancelled() -> None:
    """A request of the client may swallow a cancellation that comes together with its answer."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
