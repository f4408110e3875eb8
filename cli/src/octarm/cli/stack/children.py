"""One child process: started so that it cannot outlive us, stopped in bounded time."""

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What to run. `env` is the whole environment of the child; None hands on ours."""

    argv: Sequence[str]
    log: Path
    env: Mapping[str, str] | None = None
    user: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGKILL


class Child:
    """A running child process, leader of its own process group.

    It has its own group so that Ctrl-C on the terminal reaches only its parent, which then stops
    the children in order.
    """

    def __init__(self, command: Command, process: asyncio.subprocess.Process) -> None:
        self._command = command
        self._process = process

    @classmethod
    async def start(cls, command: Command) -> "Child":
        """Start the process; its output is appended to the log file.

        Raises:
            OSError: the program cannot be executed.
        """
        return cls(command, await _spawned(command, stdin=asyncio.subprocess.DEVNULL))

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative when a signal ended it."""
        return self._process.returncode

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return self._command.log

    async def wait(self) -> int:
        """Wait until it ends and give its exit code."""
        return await self._process.wait()

    async def stop(self, *, grace_s: float) -> bool:
        """Ask it to end, wait at most `grace_s`, then kill its whole group. Idempotent.

        Returns:
            Whether it ended by itself in time.
        """
        if self.exit_code is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(self._command.stop_signal)
        try:
            await asyncio.wait_for(self._process.wait(), grace_s)
        except TimeoutError:
            self._end_group(signal.SIGKILL)
            await self._process.wait()
            return False
        self._end_group(signal.SIGKILL)  # what it left behind
        return True

    def kill(self) -> None:
        """End its whole group at once, without waiting."""
        self._end_group(self._command.death_signal)

    def _end_group(self, how: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, how)


async def run_to_end(command: Command, *, stdin: bytes = b"", timeout_s: float) -> int:
    """Run a short command, its output appended to the log, and give its exit code.

    Raises:
        TimeoutError: it took longer than `timeout_s`; it has been killed.
    """
    process = await _spawned(command, stdin=asyncio.subprocess.PIPE)
    try:
        await asyncio.wait_for(process.communicate(stdin), timeout_s)
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        raise
    return await process.wait()


async def _spawned(command: Command, *, stdin: int) -> asyncio.subprocess.Process:
    command.log.parent.mkdir(parents=True, exist_ok=True)
    with command.log.open("ab") as log:
        return await asyncio.create_subprocess_exec(
            *command.argv,
            stdin=stdin,
            stdout=log,
            stderr=log,
            env=command.env,
            user=command.user,
            start_new_session=True,
            preexec_fn=_dies_with_parent(command.death_signal),
        )


def last_line(log: Path) -> str:
    """The last thing a process wrote, but for its hint: for one-line error messages."""
    with suppress(OSError):
        text = log.read_text("utf-8", errors="replace")[-4000:]
        lines = [line.strip() for line in text.split("\n")]
        said = [line for line in lines if line and not line.startswith("hint:")]
        return said[-1].removeprefix("error: ")[:300] if said else ""
    return ""


def _dies_with_parent(death_signal: signal.Signals) -> Callable[[], None] | None:
    """Make the kernel signal the child when we die, even by `kill -9` (Linux only)."""
    if not sys.platform.startswith("linux"):
        return None
    # Loaded before the fork: between fork and exec the child must not take a lock.
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def in_child() -> None:
        prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != parent:  # we died before the line above took effect
            os._exit(1)

    return in_child
