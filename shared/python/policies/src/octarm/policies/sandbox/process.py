"""One child process as the host sees it: ask, and learn why it died when it does."""

import asyncio
import os
import re
import signal
import socket
import sys
from contextlib import suppress
from typing import Final

import msgspec

from octarm.policies.sandbox.frames import (
    ANSWERS,
    HEADER,
    MAX_ANSWER,
    MAX_POLICIES,
    Answer,
    Load,
    Loaded,
    Request,
    frame,
    header,
)
from octarm.policies.sandbox.limits import Limits

# Enough for a context of 256 tasks and 1,000 arms: one write, one read.
_BUFFER: Final = 1 << 20
_STDERR_KEPT: Final = 4_096
_MEMORY: Final = re.compile(r"memory|AlignedSize|capacity overflow", re.IGNORECASE)

_START_S: Final = 20.0


class Died(Exception):
    """The child is gone: `reason` is memory, timeout or crash; unavailable: there was none."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class ChildProcess:
    """A running child; whoever starts it closes it. Answers one request at a time.

    `worn` is set when it has grown so much that it would better be replaced.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.worn = False
        self._loaded: dict[str, None] = {}
        self._process = process
        self._reader = reader
        self._writer = writer
        self._said = bytearray()
        self._listener = asyncio.create_task(self._listen())

    @classmethod
    async def start(cls, limits: Limits) -> "ChildProcess":
        """Start a child with nothing but its socket: no environment, no input, no output.

        Raises:
            Died: it did not come up.
            OSError: there is no room for another process.
        """
        ours, theirs = socket.socketpair()
        try:
            for end in (ours, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                "-m",
                "octarm.policies.sandbox.child",
                str(theirs.fileno()),
                msgspec.json.encode(limits).decode(),
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                # A backtrace needs memory just when there is none.
                env={"RUST_BACKTRACE": "0"},
                cwd="/",
                start_new_session=True,
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        reader, writer = await asyncio.open_connection(sock=ours, limit=_BUFFER)
        child = cls(process, reader, writer)
        try:
            await child._answer(within_s=_START_S)
        except BaseException:
            await child.close()
            raise
        return child

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    async def ask(self, request: Request, *, within_s: float) -> Answer:
        """Ask and wait for the answer.

        Raises:
            Died: the child has ended, or did not answer in time and has been killed.
        """
        return await self._answer(frame(request), within_s=within_s)

    async def _answer(self, question: bytes = b"", *, within_s: float) -> Answer:
        try:
            async with asyncio.timeout(within_s):
                self._writer.write(question)
                await self._writer.drain()
                size, self.worn = header(await self._reader.readexactly(HEADER))
                if size > MAX_ANSWER:
                    raise await self._end("crash", f"an answer of {size} bytes")
                answer: Answer = ANSWERS.decode(await self._reader.readexactly(size))
                return answer
        except TimeoutError:
            raise await self._end("timeout", f"no answer within {within_s:.3f} s") from None
        except (asyncio.IncompleteReadError, ConnectionError, msgspec.MsgspecError):
            raise await self._end("crash", "the process ended") from None

    async def load(self, policy: str, source: str, *, within_s: float) -> Answer:
        """Have the child compile the source of that digest, unless it has.

        Raises:
            Died: as `ask`.
        """
        if policy in self._loaded:
            return Loaded()
        answer = await self.ask(Load(policy, source), within_s=within_s)
        if isinstance(answer, Loaded):
            self._loaded[policy] = None
            # The child forgets in the same order.
            if len(self._loaded) > MAX_POLICIES:
                del self._loaded[next(iter(self._loaded))]
        return answer

    async def close(self) -> None:
        """Kill the child if it still runs, and reap it; again is the same."""
        if self._process.returncode is None:
            # `Process.kill` would reap a child that has just ended, and lose its exit code.
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        await self._listener
        self._writer.close()

    async def _end(self, reason: str, text: str) -> Died:
        """Reap the child and find out why it died from what it said last."""
        await self.close()
        said = self._said.decode(errors="replace").strip()
        code = self._process.returncode
        if lines := [line for line in said.splitlines() if _MEMORY.search(line)]:
            return Died("memory", lines[0])
        if code == -signal.SIGXCPU:
            return Died("timeout", "used up its processor time")
        return Died(reason, f"{text} (exit {code})\n{said}".strip())

    async def _listen(self) -> None:
        """Keep the beginning of what comes on standard error, and drain the rest."""
        stream = self._process.stderr
        while stream is not None and (data := await stream.read(_BUFFER)):
            self._said += data[: _STDERR_KEPT - len(self._said)]
