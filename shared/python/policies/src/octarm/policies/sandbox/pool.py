"""The child processes of an engine: as many as wanted, whatever happens to them."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from octarm.common.clock import set_within
from octarm.common.telemetry import get_logger
from octarm.policies.sandbox.limits import Limits
from octarm.policies.sandbox.process import ChildProcess, Died

T = TypeVar("T")

# While another child is there it can wait to replace one: three failures in a row take a version
# back, and all children with it. To start one takes more than what killed it.
_REST_S: Final = 1.0


class Pool:
    """Children of which each serves one call at a time; opened and closed by its owner."""

    def __init__(self, limits: Limits, size: int) -> None:
        self._limits = limits
        self._size = size
        self._idle: asyncio.Queue[ChildProcess] = asyncio.Queue()
        self._alive: set[ChildProcess] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = asyncio.Event()

    async def open(self) -> None:
        """Start all children.

        Raises:
            Died, OSError: one of them did not start; none is left running.
        """
        starts = [self._start() for _ in range(self._size)]
        failed = [it for it in await asyncio.gather(*starts, return_exceptions=True) if it]
        if failed:
            await self.close()
            raise failed[0]

    async def close(self) -> None:
        """Kill the children and reap them; again is the same."""
        self._closing.set()
        # A start that was cut off would leave a process behind.
        await asyncio.gather(*self._tasks)
        await asyncio.gather(*[child.close() for child in self._alive])
        self._alive.clear()

    @property
    def pids(self) -> list[int]:
        """The process ids of the children that are up."""
        return sorted(child.pid for child in self._alive)

    async def use(self, call: Callable[[ChildProcess], Awaitable[T]], *, within_s: float) -> T:
        """Run a call on a free child; one that dies, is left half-way, or is worn, is replaced.

        Raises:
            Died: `unavailable` when no child came free in time, else what the call raises.
        """
        try:
            async with asyncio.timeout(within_s):
                child = await self._idle.get()
        except TimeoutError:
            raise Died("unavailable", "no child process was free") from None
        whole = False
        try:
            answer = await call(child)
            whole = True
            return answer
        finally:
            if whole and not child.worn:
                self._idle.put_nowait(child)
            else:
                self._replace(child)

    def _replace(self, child: ChildProcess) -> None:
        task = asyncio.create_task(self._start_for(child))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _start_for(self, dead: ChildProcess) -> None:
        await dead.close()
        self._alive.discard(dead)
        rest_s = _REST_S if self._alive else 0.0
        while not await set_within(self._closing, rest_s):
            try:
                await self._start()
                return
            except (OSError, Died) as error:
                get_logger().warning("policy_child_not_started", error=str(error))
            rest_s = _REST_S

    async def _start(self) -> None:
        child = await ChildProcess.start(self._limits)
        self._alive.add(child)
        self._idle.put_nowait(child)
