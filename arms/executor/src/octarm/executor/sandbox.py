"""Run one job under its limits and bring back what it wrote.

`Sandbox` isolates with bubblewrap; `Unsafe` only limits and is for machines without it.
Both end every process of the job on return, also when the caller is cancelled.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from octarm.executor.bubblewrap import WRITABLE, Launch, limited, missing_tools, sandboxed
from octarm.executor.job import Job
from octarm.executor.limits import LimitName, Limits, Outcome
from octarm.executor.usage import files_in, usage_of

if TYPE_CHECKING:
    from collections.abc import Iterator

WATCH_EVERY_S: Final = 0.05
READ_BYTES: Final = 64 * 1024
PIPE_CLOSES_WITHIN_S: Final = 1.0


class CannotIsolate(RuntimeError):
    """This machine cannot build the sandbox; the message says what is missing."""


class Runner(Protocol):
    """Runs a job and returns what it left behind."""

    async def run(self, job: Job, limits: Limits) -> Outcome:
        """Run to the end or to the first limit. Not idempotent: each call runs the job anew."""
        ...


@dataclass(frozen=True, slots=True)
class Sandbox:
    """Runs jobs with no network, no host files but /usr, and as nobody in particular."""

    async def run(self, job: Job, limits: Limits) -> Outcome:
        """Run `job` in a sandbox made for it alone."""
        return await _supervised(sandboxed(job, limits), limits, folders=WRITABLE)

    async def check(self) -> None:
        """Run nothing in a sandbox once, to learn at start whether it works here.

        Raises:
            CannotIsolate: a tool is missing or the kernel refuses.
        """
        if missing := missing_tools():
            raise CannotIsolate(
                f"{', '.join(missing)} not found: install bubblewrap and util-linux, or start with "
                "--unsafe to run commands without isolation"
            )
        outcome = await self.run(Job("argv", "true"), Limits(wall_s=10))
        if outcome.exit_code != 0:
            raise CannotIsolate(
                f"bubblewrap does not work here ({outcome.stderr.strip()[:200]}): allow user "
                "namespaces, or start with --unsafe to run commands without isolation"
            )


@dataclass(frozen=True, slots=True)
class Unsafe:
    """Runs jobs as ordinary children of this process: limited, but isolated from nothing."""

    async def run(self, job: Job, limits: Limits) -> Outcome:
        """Run `job` in a temporary folder, which is removed afterwards."""
        return await _supervised(_unsafe_launch(job, limits), limits, folders=())


@contextmanager
def _unsafe_launch(job: Job, limits: Limits) -> "Iterator[Launch]":
    prefix = limited(limits) if shutil.which("prlimit", path=os.defpath) else []
    with tempfile.TemporaryDirectory(prefix="octarm-unsafe-") as folder:
        for name, content in job.files.items():
            Path(folder, name).write_bytes(content)
        command = ("python3", "-c", job.text) if job.kind == "python" else job.argv
        env = {"PATH": os.defpath, "HOME": folder, "LANG": "C.UTF-8"}
        yield Launch([*prefix, *command], (), env, folder)


async def _supervised(
    launching: AbstractContextManager[Launch], limits: Limits, *, folders: tuple[str, ...]
) -> Outcome:
    started = time.monotonic()
    with launching as launch:
        process = await asyncio.create_subprocess_exec(
            *launch.argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=launch.pass_fds,
            env=dict(launch.env),
            cwd=launch.cwd,
            start_new_session=True,
        )
        run = _Run(process, limits)
        await run.until_ended(folders)
    return run.outcome(time.monotonic() - started)


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


class _Run:
    """One started process, watched until it and everything it started is gone."""

    def __init__(self, process: asyncio.subprocess.Process, limits: Limits) -> None:
        self._process = process
        self._limits = limits
        self._limit: LimitName | None = None
        self._out = _Kept(limits.output_bytes)
        self._err = _Kept(limits.output_bytes)

    async def until_ended(self, folders: tuple[str, ...]) -> None:
        """Wait for the end; on cancellation too, every process of it is gone afterwards."""
        process = self._process
        assert process.stdout is not None and process.stderr is not None  # noqa: PT018 - both piped
        readers = [
            asyncio.create_task(self._read(process.stdout, self._out)),
            asyncio.create_task(self._read(process.stderr, self._err)),
        ]
        watcher = asyncio.create_task(self._watch(folders))
        timer = asyncio.get_running_loop().call_later(self._limits.wall_s, self._stop, "time")
        try:
            await process.wait()
        finally:
            timer.cancel()
            self._kill()
            watcher.cancel()
            await _finish(process, readers)

    def outcome(self, duration_s: float) -> Outcome:
        """What came of it; only after `until_ended`."""
        code = self._process.returncode
        assert code is not None
        return Outcome(
            stdout=self._out.text,
            stderr=self._err.text,
            exit_code=code if code >= 0 else 128 - code,
            duration_ms=round(duration_s * 1000),
            limit=self._limit,
            stdout_truncated=self._out.truncated,
            stderr_truncated=self._err.truncated,
        )

    async def _read(self, stream: asyncio.StreamReader, kept: _Kept) -> None:
        while chunk := await stream.read(READ_BYTES):
            kept.take(chunk)
            if self._out.seen + self._err.seen > self._limits.flood_bytes:
                self._stop("output")

    async def _watch(self, folders: tuple[str, ...]) -> None:
        """Sample what the kernel cannot bound for several processes together."""
        limits = self._limits
        exceeded: dict[LimitName, Callable[[], bool]] = {
            "memory": lambda: usage.rss_bytes > limits.memory_mib * 1024 * 1024,
            "cpu": lambda: usage.cpu_s > limits.cpu_s,
            "files": lambda: files_in(self._process.pid, folders) > limits.files,
        }
        while self._limit is None:
            usage = usage_of(self._process.pid)
            for name, is_exceeded in exceeded.items():
                if is_exceeded():
                    self._stop(name)
            await asyncio.sleep(WATCH_EVERY_S)

    def _stop(self, reason: LimitName) -> None:
        if self._limit is None and self._process.returncode is None:
            self._limit = reason
            self._kill()

    def _kill(self) -> None:
        """End the whole group; a sandbox dies with its outermost process."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


async def _finish(process: asyncio.subprocess.Process, readers: list[asyncio.Task[None]]) -> None:
    """Let the readers drain what is in the pipes, then close them whoever still holds them."""
    _, unfinished = await asyncio.wait(readers, timeout=PIPE_CLOSES_WITHIN_S)
    for reader in unfinished:
        reader.cancel()
    await process.wait()
    process._transport.close()  # type: ignore[attr-defined]  # no public way to close the pipes
