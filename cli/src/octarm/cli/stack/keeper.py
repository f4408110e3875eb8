"""Keeping one process running: start it again when it dies, with growing pauses."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

from octarm.cli.stack.errors import StackError
from octarm.cli.stack.servers import Server
from octarm.common.cancelling import end

LOOK_EVERY_S = 5.0
FAILURES = 6


class State(StrEnum):
    """Where a kept process is in its life."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    STOPPING = "stopping"
    STOPPED = "stopped"


@dataclass(slots=True)
class Backoff:
    """Pauses that double, and begin anew after the process was healthy for a while."""

    first_s: float = 0.2
    longest_s: float = 10.0
    healthy_after_s: float = 30.0
    _next_s: float = 0.0

    def pause_s(self, *, healthy_for_s: float) -> float:
        """The pause before the next start of a process that ran well for `healthy_for_s`."""
        if healthy_for_s >= self.healthy_after_s or self._next_s == 0:
            self._next_s = self.first_s
        pause_s = self._next_s
        self._next_s = min(self._next_s * 2, self.longest_s)
        return pause_s


class Keeper:
    """Starts a server, and again whenever it dies, until told to stop.

    `changed` is called with a line for people at each change of state. With `lives`, one that
    runs but does not live, six times in a row, is killed, and so started again.
    """

    def __init__(
        self,
        server: Server,
        *,
        changed: Callable[[str], None],
        lives: Callable[[], Awaitable[bool]] | None = None,
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        self.server = server
        self.state = State.WAITING
        self.restarts = 0
        self._changed = changed
        self._lives = lives
        self._look_every_s = look_every_s
        self._backoff = Backoff()
        self._ready_at = 0.0
        self._watch: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """The role it keeps."""
        return self.server.name

    @property
    def healthy_for_s(self) -> float:
        """How long it has been ready, 0 when it is not."""
        return time.monotonic() - self._ready_at if self.state is State.READY else 0.0

    async def start(self) -> None:
        """Start it for the first time and keep it from then on.

        Raises:
            StackError: this first start failed; nothing runs.
        """
        self.state = State.STARTING
        await self.server.start()
        self._is_ready()
        self._watch = asyncio.create_task(self._keep(), name=f"keep {self.name}")

    async def watch(self) -> None:
        """Wait for as long as it is kept; raise what stopped the keeping, which is a bug."""
        if self._watch is not None:
            await asyncio.shield(self._watch)

    async def stop(self, *, grace_s: float) -> None:
        """Stop keeping it, and end it within `grace_s`. Idempotent."""
        if self.state in {State.WAITING, State.STOPPED}:
            return
        self.state = State.STOPPING
        if self._watch is not None:
            self._watch.cancel()
            with suppress(asyncio.CancelledError):
                await self._watch
        ended_in_time = await self.server.stop(grace_s=grace_s)
        self.state = State.STOPPED
        how = "stopped" if ended_in_time else f"killed: it did not stop within {grace_s:.0f} s"
        self._changed(f"{self.name} {how}")

    async def _keep(self) -> None:
        while True:
            exit_code = await self._until_it_ends()
            pause_s = self._backoff.pause_s(healthy_for_s=self.healthy_for_s)
            self.state = State.RESTARTING
            self._changed(f"{self.name} {_how_it_ended(exit_code)}, starting again")
            await self._bring_back(pause_s)

    async def _until_it_ends(self) -> int:
        looking = asyncio.create_task(self._look_after())
        try:
            return await self.server.wait()
        finally:
            await end(looking)

    async def _look_after(self) -> None:
        """Kill it when it has failed to live for long enough; its end is noticed by `wait`."""
        failures = 0
        while self._lives is not None and failures < FAILURES:
            await asyncio.sleep(self._look_every_s)
            failures = 0 if await self._lives() else failures + 1
        if failures:
            self._changed(f"{self.name} runs but does nothing, killing it")
            self.server.kill()

    async def _bring_back(self, pause_s: float) -> None:
        while True:
            await asyncio.sleep(pause_s)
            try:
                await self.server.start()
            except StackError as error:
                pause_s = self._backoff.pause_s(healthy_for_s=0)
                self._changed(f"{error}; next try in {pause_s:.1f} s")
            else:
                self.restarts += 1
                self._is_ready()
                return

    def _is_ready(self) -> None:
        self.state = State.READY
        self._ready_at = time.monotonic()
        self._changed(f"{self.name} ready (process {self.server.pid})")


def _how_it_ended(exit_code: int) -> str:
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    with suppress(ValueError):
        return f"was ended by {signal.Signals(-exit_code).name}"
    return f"was ended by signal {-exit_code}"
