"""One thread, virtual time: an event loop that never waits, and processes that can be killed.

Time passes only when nothing is left to do at the present moment; then it jumps to the next
timer. Every task remembers the process that it belongs to (a context variable, inherited by
the tasks that it starts). A killed process is never run again, not even its `finally` blocks,
as after `kill -9`; a paused one stands still, as after SIGSTOP, and its timers are late.
"""

import asyncio
import contextlib
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NoReturn

EPOCH: Final = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
START_S: Final = 1000.0
OUTSIDE: Final = Context()
ROUNDS: Final = 5


class Process:
    """Something that can be killed or paused as a whole; `closing` is called when it is killed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.paused = False
        self.skew_s = 0.0
        self.backlog: deque[asyncio.Handle] = deque()
        self.closing: list[Callable[[], None]] = []

    def spawn(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """Run a coroutine as part of this process."""
        context = copy_context()
        context.run(PROCESS.set, self)
        loop = asyncio.get_running_loop()
        if isinstance(loop, VirtualLoop) and self not in loop.processes:
            loop.processes.append(self)
        return loop.create_task(work, context=context)

    def kill(self) -> None:
        """Never run any of its code again; its connections are closed by the system."""
        self.alive = False
        for close in self.closing:
            close()


PROCESS: ContextVar[Process | None] = ContextVar("PROCESS", default=None)


class Stuck(Exception):
    """Nothing is left to do and nothing will ever happen."""


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop on virtual time; `deadline_s` bounds how far a run may go."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = START_S
        self.steps = 0
        self.processes: list[Process] = []
        self._due: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._asked = 0

    def time(self) -> float:
        """Give the virtual seconds."""
        return self.now_s

    def call_soon(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Run at the present moment, in order."""
        handle = asyncio.Handle(callback, args, self, context)
        self._due.append(handle)
        return handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Run at a moment; what is due at the same one runs in the order of asking."""
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._asked += 1
        heapq.heappush(self._timers, (when, self._asked, timer))
        return timer

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Run after some seconds."""
        return self.call_at(self.now_s + delay, callback, *args, context=context)

    def _run_once(self) -> None:
        due, timers = self._due, self._timers
        if not due:
            while timers and timers[0][2]._cancelled:
                heapq.heappop(timers)
            if not timers:
                raise Stuck
            self.now_s = max(self.now_s, timers[0][0])
        now = self.now_s
        while timers and timers[0][0] <= now:
            due.append(heapq.heappop(timers)[2])
        for _ in range(len(due)):
            handle = due.popleft()
            if handle._cancelled:
                continue
            process = handle._context.get(PROCESS)  # type: ignore[attr-defined]
            if process is not None and (process.paused or not process.alive):
                process.backlog.append(handle)
                continue
            self.steps += 1
            handle._run()

    def resume(self, process: Process) -> None:
        """Let a paused process go on, with everything that came due meanwhile."""
        process.paused = False
        if process.alive:
            self._due.extend(process.backlog)
            process.backlog.clear()

    def later(self, seconds: float, callback: Callable[..., None], *arguments: Any) -> None:
        """Call back after virtual seconds, outside every process."""
        self.call_later(seconds, callback, *arguments, context=OUTSIDE)

    def finish(self) -> None:
        """Cancel what is left and let it end, so that nothing is destroyed while pending."""
        for process in self.processes:
            process.alive = True
            self.resume(process)
        for _ in range(ROUNDS):
            left = [task for task in asyncio.all_tasks(self) if not task.done()]
            for task in left:
                task.cancel()
            if not left:
                break
            with contextlib.suppress(Stuck):
                self.run_until_complete(asyncio.wait(left, timeout=60.0))
            for task in left:
                # Killed processes find their connections gone: not told to the log, whose
                # tracebacks are parsed, which fails when garbage is collected while parsing.
                if task.done() and not task.cancelled():
                    task.exception()
        self.close()

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Drop it when it comes to the head."""

    def _write_to_self(self) -> None:
        """Nobody sleeps, so nobody is woken."""

    def _process_events(self, _: object) -> NoReturn:
        raise AssertionError("there are no file descriptors")


class VirtualClock:
    """`Clock` on virtual time; the wall clock may be off by the process's own skew."""

    def __init__(self, loop: VirtualLoop, process: Process | None = None) -> None:
        self._loop = loop
        self._process = process

    def now(self) -> datetime:
        """Give the wall-clock time, with zone UTC."""
        skew_s = self._process.skew_s if self._process else 0.0
        return EPOCH + timedelta(seconds=self._loop.now_s - START_S + skew_s)

    def monotonic(self) -> float:
        """Give the virtual seconds."""
        return self._loop.now_s
