"""Run one job under its limits and bring back what it wrote.

`Sandbox` isolates with bubblewrap; `Unsafe` only limits and is for machines without it.
Both end every process of the job on return, also when the caller is cancelled.
"""

import asyncio
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from octarm.executor.bubblewrap import WRITABLE, Launch, limited, missing_tools, sandboxed
from octarm.executor.job import Job
from octarm.executor.limits import Limits, Outcome
from octarm.executor.supervision import Run


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
def _unsafe_launch(job: Job, limits: Limits) -> Iterator[Launch]:
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
        run = Run(limits, launch.status_fd)
        starting = asyncio.create_task(_start(launch, run))
        try:
            # A start that is cancelled half-way could not be ended cleanly: let it happen first.
            await asyncio.shield(starting)
            await run.until_ended(folders)
        finally:
            await asyncio.wait({starting})
            await run.end()
    return run.outcome(time.monotonic() - started)


async def _start(launch: Launch, run: Run) -> None:
    await asyncio.get_running_loop().subprocess_exec(
        lambda: run,
        *launch.argv,
        stdin=subprocess.DEVNULL,
        pass_fds=launch.pass_fds,
        env=dict(launch.env),
        cwd=launch.cwd,
        start_new_session=True,
    )
