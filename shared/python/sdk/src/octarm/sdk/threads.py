"""Threads for sync handlers; a thread that never returns does not keep the process alive."""

import asyncio
import contextvars
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class _Call:
    run: Callable[[], Any]
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop


class HandlerThreads:
    """Runs functions in at most `limit` daemon threads, started when they are needed.

    The standard executor is not used because the interpreter waits for its threads at exit:
    one stuck handler would keep a drained arm from leaving.
    """

    def __init__(self, limit: int, name: str) -> None:
        self._limit = limit
        self._name = name
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._threads = 0
        self._busy = 0

    def submit(self, function: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
        """Run `function` in a thread with the caller's context variables."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        context = contextvars.copy_context()
        self._busy += 1
        future.add_done_callback(self._freed)
        self._calls.put(_Call(lambda: context.run(function, *arguments), future, loop))
        if self._busy > self._threads and self._threads < self._limit:
            self._threads += 1
            name = f"{self._name}-{self._threads}"
            threading.Thread(target=self._work, name=name, daemon=True).start()
        return future

    def close(self) -> None:
        """Let idle threads end; busy ones end after their call."""
        for _ in range(self._threads):
            self._calls.put(None)

    def _freed(self, _: asyncio.Future[Any]) -> None:
        self._busy -= 1

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            _perform(call)


def _perform(call: _Call) -> None:
    value: Any = None
    error: BaseException | None = None
    try:
        value = call.run()
    except BaseException as raised:  # noqa: BLE001 - whatever it is, the event loop must hear it
        error = raised
    # The loop may be closed: the handler outlived its arm.
    with suppress(RuntimeError):
        call.loop.call_soon_threadsafe(_deliver, call.future, value, error)


def _deliver(future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(value)
    elif isinstance(error, StopIteration):
        # A future cannot carry it.
        future.set_exception(RuntimeError("the handler raised StopIteration"))
    else:
        future.set_exception(error)
