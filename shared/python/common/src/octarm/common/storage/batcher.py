"""Natural batching: while one flush runs, items gather for the next."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Generic, TypeVar, cast

from octarm.common.storage.turns import Turns
from octarm.models.errors import Backpressure, OctarmError

SPEED_WEIGHT: Final = 0.2
T = TypeVar("T")
R = TypeVar("R")


def _weightless(_: object) -> int:
    return 0


def _of_nobody(_: object) -> str:
    return ""


class _Caller(Generic[R]):
    """Who waits for one answer, or for all the answers to what was handed in together."""

    __slots__ = ("answers", "future", "left")

    def __init__(self, number: int | None = None) -> None:
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.left = 1 if number is None else number
        self.answers: list[R | Exception | None] | None = (
            None if number is None else [None] * number
        )

    def tell(self, place: int, answer: R | Exception) -> None:
        self.left -= 1
        if self.answers is not None:
            self.answers[place] = answer
        if self.left or self.future.done():
            return
        if self.answers is not None:
            self.future.set_result(self.answers)
        elif isinstance(answer, Exception):
            self.future.set_exception(answer)
        else:
            self.future.set_result(answer)


class Batcher(Generic[T, R]):
    """Collects items and flushes them together; an idle batcher flushes at once.

    At most `max_items` go into one flush and at most `concurrency` flushes run at a time. After
    one of several items there is a pause of `gather_s` seconds: those who were answered, and come
    again at once, go together with those who came meanwhile, and not by turns.
    `flush` gives one answer for each item, in order; an exception as answer is raised to the
    caller of that item; when `flush` itself raises, an `OctarmError` goes to all callers of the
    batch, and after anything else each item is flushed alone. Beyond `max_waiting` items, more
    than `max_wait_s` seconds' work at the speed seen so far (but `min_waiting` items in any case),
    or `max_bytes` as `size_of` measures them, an item is refused with `Backpressure`, at once.
    Where more wait than one flush takes, each owner (`owner_of`) gets the same part of it.
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
        min_waiting: int = 0,
        max_bytes: int = 0,
        size_of: Callable[[T], int] = _weightless,
        owner_of: Callable[[T], str] = _of_nobody,
    ) -> None:
        self._flush = flush
        self._max_items = max_items
        self._gather_s = gather_s
        self._concurrency = concurrency
        self._max_waiting = max_waiting
        self._max_wait_s = max_wait_s
        # What the flushes under way may leave behind is taken at any speed.
        self._min_waiting = max(min_waiting, 2 * max_items)
        self._seconds_each = 0.0
        self._max_bytes = max_bytes
        self._size_of = size_of
        self._bytes = 0
        self._owner_of = owner_of
        self._waiting: Turns[tuple[T, _Caller[R], int]] = Turns()
        self._flushing: set[asyncio.Task[Any]] = set()

    async def put(self, item: T) -> R:
        """Hand in an item and await its answer."""
        return await self.put_nowait(item)

    def put_nowait(self, item: T) -> "asyncio.Future[R]":
        """Hand in an item; the future gets its answer."""
        caller: _Caller[R] = _Caller()
        refusal = self.refusal()
        if refusal is not None:
            caller.future.set_exception(refusal)
        else:
            self._take([(item, caller, 0)])
        return caller.future

    async def put_many(self, items: Sequence[T]) -> Sequence[R | Exception]:
        """Hand in items and await all their answers, as `put_many_nowait` gives them.

        When nothing is under way they are flushed here, without a task of their own: not for
        callers that may be cancelled in the midst of it.
        """
        me = asyncio.current_task()
        busy = self._flushing or self._waiting
        if busy or not 0 < len(items) <= self._max_items or me is None:
            return await self.put_many_nowait(items)
        self._flushing.add(me)
        try:
            return await self._answers(list(items))
        finally:
            self._flushing.discard(me)
            if self._waiting:
                self._begin()

    def put_many_nowait(self, items: Sequence[T]) -> "asyncio.Future[list[R | Exception]]":
        """Hand in items; the future gets all their answers, in order, and errors among them.

        They are refused together or not at all: the last may go beyond the bounds.
        """
        caller: _Caller[R] = _Caller(len(items))
        refusal = self.refusal()
        if refusal is not None or not items:
            caller.future.set_result([refusal] * len(items))
        else:
            self._take([(item, caller, place) for place, item in enumerate(items)])
        return caller.future

    def refusal(self) -> Backpressure | None:
        """Say why an item would be refused now, and when to come again; None when it would not."""
        waiting = len(self._waiting)
        wait_s = waiting * self._seconds_each
        if (
            waiting < self._max_waiting
            and self._bytes <= self._max_bytes
            and (waiting < self._min_waiting or wait_s <= self._max_wait_s)
        ):
            return None
        again_s = max(1, math.ceil(wait_s))
        return Backpressure("too much is waiting here", code="QUEUE_FULL", retry_after_s=again_s)

    def _take(self, entries: list[tuple[T, _Caller[R], int]]) -> None:
        self._bytes += sum(self._size_of(item) for item, _, _ in entries)
        for entry in entries:
            self._waiting.add(self._owner_of(entry[0]), entry)
        self._begin()

    def _begin(self) -> None:
        """Flush what waits beside the flushes under way, if one more may be."""
        if len(self._flushing) < self._concurrency:
            self._flushing.add(asyncio.create_task(self._run()))

    async def _run(self) -> None:
        try:
            # One turn of the loop first, so that what arrived in the same read goes together.
            await asyncio.sleep(0)
            while self._waiting:
                batch = self._waiting.take(self._max_items)
                self._bytes -= sum(self._size_of(item) for item, _, _ in batch)
                # Whoever has given up waiting does not want it any more.
                await self._flush_batch([entry for entry in batch if not entry[1].future.done()])
                if self._gather_s and 1 < len(batch) < self._max_items:
                    await asyncio.sleep(self._gather_s)
        finally:
            # Here and not in a done callback: an item handed in between the last look at the
            # waiting ones and the callback would start no run, and wait for ever.
            self._flushing.discard(cast("asyncio.Task[Any]", asyncio.current_task()))

    async def _flush_batch(self, batch: list[tuple[T, _Caller[R], int]]) -> None:
        if not batch:
            return
        began = time.monotonic()
        answers = await self._answers([item for item, _, _ in batch])
        each = (time.monotonic() - began) / len(batch) / self._concurrency
        self._seconds_each += SPEED_WEIGHT * (each - self._seconds_each)
        for (_, caller, place), answer in zip(batch, answers, strict=True):
            caller.tell(place, answer)

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
