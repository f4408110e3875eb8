"""Watch one started process until it, and everything it started, is gone."""

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, cast

from octarm.executor.limits import LimitName, Limits, Outcome
from octarm.executor.usage import files_in, usage_of

WATCH_EVERY_S: Final = 0.05
CLOSES_WITHIN_S: Final = 1.0
REPORTS_WITHIN_S: Final = 5.0
_CHILD_PID: Final = re.compile(rb'"child-pid": *([0-9]+)')


@dataclass(slots=True)
class _Kept:
    """The first bytes of a stream, and how many there were in all."""

    room: int
    data: bytearray = field(default_factory=bytearray)
    seen: int = 0

    def take(self, chunk: bytes) -> None:
        self.data += chunk[: max(0, self.room - self.seen)]
        self.seen += len(chunk)

    @property
    def text(self) -> str:
        return self.data.decode("utf-8", "replace")

    @property
    def truncated(self) -> bool:
        return self.seen > self.room


class Run(asyncio.SubprocessProtocol):
    """One process under its limits; `end` must be called, and ends all of it.

    With a `status_fd`, what is killed is the sandbox's init, whose death takes every process in
    its namespace along. Killing bubblewrap itself while it still prepares would leave the
    half-made sandbox to run on alone: it binds itself to its parent's life only at the end.
    """

    def __init__(self, limits: Limits, status_fd: int | None) -> None:
        self._limits = limits
        self._status_fd = status_fd
        self._init_fd: int | None = None
        self._transport: asyncio.SubprocessTransport | None = None
        self._limit: LimitName | None = None
        self._kept = {1: _Kept(limits.output_bytes), 2: _Kept(limits.output_bytes)}
        self._exited, self._closed = asyncio.Event(), asyncio.Event()
        self._reported = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin: the process runs."""
        self._transport = cast("asyncio.SubprocessTransport", transport)
        if self._status_fd is not None:
            asyncio.get_running_loop().add_reader(self._status_fd, self._read_status)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Keep the start of what it writes, and stop it when it never ends."""
        self._kept[fd].take(data)
        if sum(kept.seen for kept in self._kept.values()) > self._limits.flood_bytes:
            self._stop("output")

    def process_exited(self) -> None:
        """Note that the process itself has ended, whoever still holds its pipes."""
        self._exited.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that it has ended and its pipes are closed."""
        self._closed.set()

    async def until_ended(self, folders: tuple[str, ...]) -> None:
        """Wait until it ends by itself or a limit ends it."""
        watcher = asyncio.create_task(self._watch(folders))
        timer = asyncio.get_running_loop().call_later(self._limits.wall_s, self._stop, "time")
        try:
            await self._exited.wait()
        finally:
            timer.cancel()
            watcher.cancel()

    async def end(self) -> None:
        """End every process of it, and let go of its pipes; idempotent."""
        transport = self._transport
        if transport is None:
            return
        if self._status_fd is not None and not self._exited.is_set():
            await _within(REPORTS_WITHIN_S, self._reported)
        self._kill()
        await _within(CLOSES_WITHIN_S, self._closed)
        transport.close()
        await self._exited.wait()
        if self._status_fd is not None:
            asyncio.get_running_loop().remove_reader(self._status_fd)
        if self._init_fd is not None:
            os.close(self._init_fd)
            self._init_fd = None

    def outcome(self, duration_s: float) -> Outcome:
        """What came of it; only after its end."""
        assert self._transport is not None
        code = self._transport.get_returncode()
        assert code is not None
        return Outcome(
            stdout=self._kept[1].text,
            stderr=self._kept[2].text,
            exit_code=code if code >= 0 else 128 - code,
            duration_ms=round(duration_s * 1000),
            limit=self._limit,
            stdout_truncated=self._kept[1].truncated,
            stderr_truncated=self._kept[2].truncated,
        )

    async def _watch(self, folders: tuple[str, ...]) -> None:
        """Sample what the kernel cannot bound for several processes together."""
        assert self._transport is not None
        pid, limits = self._transport.get_pid(), self._limits
        exceeded: dict[LimitName, Callable[[], bool]] = {
            "memory": lambda: usage.rss_bytes > limits.memory_mib * 1024 * 1024,
            "cpu": lambda: usage.cpu_s > limits.cpu_s,
            "files": lambda: files_in(pid, folders) > limits.files,
        }
        while self._limit is None:
            usage = usage_of(pid)
            for name, is_exceeded in exceeded.items():
                if is_exceeded():
                    self._stop(name)
            await asyncio.sleep(WATCH_EVERY_S)

    def _read_status(self) -> None:
        """Learn which process is the sandbox's init; a pidfd cannot come to mean another one."""
        assert self._status_fd is not None
        found = _CHILD_PID.search(os.read(self._status_fd, 4096))
        asyncio.get_running_loop().remove_reader(self._status_fd)
        if found is not None:
            with contextlib.suppress(ProcessLookupError):
                self._init_fd = os.pidfd_open(int(found[1]))
        self._reported.set()
        if self._limit is not None:
            self._kill()

    def _stop(self, reason: LimitName) -> None:
        if self._limit is None and not self._exited.is_set():
            self._limit = reason
            if self._status_fd is None or self._reported.is_set():
                self._kill()

    def _kill(self) -> None:
        assert self._transport is not None
        with contextlib.suppress(ProcessLookupError):
            if self._init_fd is not None:
                signal.pidfd_send_signal(self._init_fd, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._transport.get_pid(), signal.SIGKILL)


async def _within(seconds: float, event: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
