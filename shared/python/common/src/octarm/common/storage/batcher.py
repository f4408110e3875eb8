"""Natural batching: while one flush runs, items gather for the next."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar, cast

from octarm.models.errors import Backpressure, OctarmError

SPEED_WEIGHT: Final = 0.2
T = TypeVar("T")
R = TypeVar("R")


def _weightless(_: object) -> int:
    return 0


class Batcher(Generic[T, R]):
    """Collects items and flushes them together; an idle batcher flushes at once.

    At most `max_items` go into one flush and at most `concurrency` flushes run at a time. After
    one of several items there is a pause of `gather_s` seconds: those who were answered, and come
    again at once, go together with those who came meanwhile, and not by turns.
    `flush` gives one answer for each item, in order; an exception as answer is raised to the
    caller of that item; when `flush` itself raises, an `OctarmError` goes to all callers of the
    batch, and after anything else each item is flushed alone. Beyond `max_waiting` items, more
    than `max_wait_s` seconds' work at the speed seen so far, or `max_bytes` as `size_of` measures
    them, an item is refused with `Backpressure`, at once.
    """

    def __init__(
        self,
        flush: Callable[[list[T]], Awaitable[Sequence[R | Exception]]],
        *,
        max_items: int = 200,
        gather_s: float = 0.0,
        concurrency: int = 1,
        max_waiting: int = 100_000,
        max_wait_s: float = math.inf,
        max_bytes: int = 0,
        size_of: Callable[[T], int] = _weightless,
    ) -> None:
        self._flush = flush
        self._max_items = max_items
        self._gather_s = gather_s
        self._concurrency = concurrency
        self._max_waiting = max_waiting
        self._full = Backpressure("too much is waiting here", code="QUEUE_FULL", retry_after_s=1)
        self._max_wait_s = max_wait_s
        self._seconds_each = 0.0
        self._max_bytes = max_bytes
        self._size_of = size_of
        self._bytes = 0
        self._waiting: list[tuple[T, asyncio.Future[R]]] = []
        self._flushing: set[asyncio.Task[None]] = set()

    async def put(self, item: T) -> R:
        """Hand in an item and await its answer."""
        return await self.put_nowait(item)

    def put_nowait(self, item: T) -> "asyncio.Future[R]":
        """Hand in an item; the future gets its answer."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        if self._is_full():
            future.set_exception(self._full)
            return future
        self._bytes += self._size_of(item)
        self._waiting.append((item, future))
        if len(self._flushing) < self._concurrency:
            self._flushing.add(asyncio.create_task(self._run()))
        return future

    def _is_full(self) -> bool:
        waiting = len(self._waiting)
        if waiting >= self._max_waiting or self._bytes > self._max_bytes:
            return True
        # What the flushes under way may leave behind is taken at any speed.
        is_long = waiting >= 2 * self._max_items
        return is_long and waiting * self._seconds_each > self._max_wait_s

    async def _run(self) -> None:
        try:
            # One turn of the loop first, so that what arrived in the same read goes together.
            await asyncio.sleep(0)
            while self._waiting:
                batch = self._waiting[: self._max_items]
                del self._waiting[: self._max_items]
                self._bytes -= sum(self._size_of(item) for item, _ in batch)
                # Whoever has given up waiting does not want it any more.
                await self._flush_batch([pair for pair in batch if not pair[1].done()])
                if self._gather_s and 1 < len(batch) < self._max_items:
                    await asyncio.sleep(self._gather_s)
        finally:
            # Here and not in a done callback: an item handed in between the last look at the
            # waiting ones and the callback would start no run, and wait for ever.
            self._flushing.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    async def _flush_batch(self, batch: list[tuple[T, "asyncio.Future[R]"]]) -> None:
        if not batch:
            return
        began = time.monotonic()
        answers = await self._answers([item for item, _ in batch])
        each = (time.monotonic() - began) / len(batch) / self._concurrency
        self._seconds_each += SPEED_WEIGHT * (each - self._seconds_each)
        for (_, future), answer in zip(batch, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)

    async def _answers(self, items: list[T]) -> Sequence[R | Exception]:
        try:
            answers = await self._flush(items)
            if len(answers) != len(items):
                raise ValueError(f"{len(answers)} answers for {len(items)} items")
            return answers
        except OctarmError as error:
            return [error] * len(items)
        except Exception as error:  # noqa: BLE001 - it belongs to the callers, not to us
            if len(items) == 1:
                return [error]
            # One item that breaks the flush must not fail the others.
            return [(await self._answers([item]))[0] for item in items]

    async def drain(self) -> None:
        """Wait until everything handed in has been answered."""
        while self._flushing:
            await asyncio.wait(self._flushing)
