"""Run the demo: a stack of its own, the work on it, the report."""

import asyncio
import shutil
import tempfile
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil
from rich.console import Console
from rich.text import Text

from octarm.cli.demo.documents import Found
from octarm.cli.demo.jobs import Job, jobs_for
from octarm.cli.demo.report import progress, results_document, results_table, totals
from octarm.cli.demo.work import Watcher, Work
from octarm.cli.http import Gateway
from octarm.cli.profiles import Target
from octarm.cli.spans import read_spans, span_tree
from octarm.cli.stack.arms import built_in_arm
from octarm.cli.stack.signals import run_until_signalled
from octarm.cli.stack.supervisor import Options, Stack, running
from octarm.cli.text import clean, to_json
from octarm.models.errors import OctarmError, TaskFailed

ARMS: Final = ("executor", "llm")
GONE_WITHIN_S: Final = 5.0


class _Stopped(TaskFailed):
    """Somebody stopped the demo."""


@dataclass(slots=True)
class Demo:
    """One run. `unsafe` lets the executor work without its sandbox."""

    found: Found
    out: Console
    keep: bool = False
    unsafe: bool = False
    run: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    started: float = field(default_factory=time.monotonic)
    jobs: list[Job] = field(default_factory=list)
    killed: Job | None = None
    trace_id: str = ""
    pids: set[int] = field(default_factory=set)

    def __call__(self) -> int:
        """Do everything; the exit code is 0 when all of it went well, 130 when forced to end.

        Raises:
            OctarmError: a part did not start, or the work did not end.
        """
        work_folder = Path(tempfile.mkdtemp(prefix="octarm-demo-"))
        # Postgres may run as another user, who must be able to pass through.
        work_folder.chmod(0o755)
        self.jobs = jobs_for(self.found.documents)
        data = work_folder / "stack"
        try:
            code = asyncio.run(self._on_a_stack(data))
            if code == 0 and all(job.is_over for job in self.jobs):
                self._report(work_folder)
            elif code == 0:
                raise _Stopped("stopped before the end", "Run it again.", "CANCELLED")
        except BaseException as error:
            self._remove(data, but_the_logs=not isinstance(error, _Stopped))
            raise
        else:
            self._remove(data)
            return code
        finally:
            if not any(work_folder.iterdir()):
                work_folder.rmdir()

    async def _on_a_stack(self, data: Path) -> int:
        self._say(f"starting servers, services and arms in {data} …")
        options = Options(
            data=data,
            arms=tuple(built_in_arm(name) for name in ARMS),
            env=self._environment(data),
        )
        stack = Stack(options, changed=self._changed)
        return await run_until_signalled(stack, self._work_on(stack, data))

    def _environment(self, data: Path) -> Mapping[str, str]:
        environment = {
            # With a beat a second, work of a killed arm is given to another in seconds.
            "OCTARM_HEARTBEAT_S": "1",
            "OCTARM_TRACE_EXPORT": f"file:{data / 'traces'}",
            "OCTARM_TRACE_SAMPLE": "1",
            "OCTARM_API_KEYS": "",
        }
        return environment | ({"OCTARM_EXECUTOR_UNSAFE": "1"} if self.unsafe else {})

    async def _work_on(self, stack: Stack, data: Path) -> None:
        async with running(stack, data):
            self.pids |= set(stack.pids().values())
            seconds = time.monotonic() - self.started
            self._say(f"ready after {seconds:.1f} s: {stack.urls.gateway}")
            with (
                Gateway(Target(stack.urls.gateway, source="the demo's stack")) as gateway,
                progress(self.out, self.jobs) as watcher,
            ):
                await self._in_a_thread(gateway, watcher, stack)
            self.pids |= set(stack.pids().values())
            self._say("stopping everything …")

    async def _in_a_thread(self, gateway: Gateway, watcher: Watcher, stack: Stack) -> None:
        """The client blocks; the loop must go on keeping the processes."""
        work = Work(gateway, self.jobs, watcher, stack.kill, self.run)
        doing = asyncio.create_task(asyncio.to_thread(work))
        try:
            await asyncio.shield(doing)
        finally:
            work.stop.set()
            with suppress(OctarmError):
                await doing
        self.killed = work.killed
        shown = work.killed or self.jobs[0]
        task = await asyncio.to_thread(gateway.get, f"/v1/tasks/{shown.task_id}")
        self.trace_id = (task.get("traceparent") or "--").split("-")[1]

    def _report(self, work_folder: Path) -> None:
        traces = work_folder / "stack" / "traces"
        results = work_folder / "results.json"
        results.write_text(to_json(results_document(self.jobs), indent=1), encoding="utf-8")
        self.out.print(results_table(self.jobs, self.out.width))
        self._say(totals(self.jobs, time.monotonic() - self.started))
        self._say_what_was_left_out()
        self._say(f"full results: {results}")
        spans = read_spans(traces, self.trace_id) if traces.is_dir() else []
        shown = self.killed or self.jobs[0]
        title = f"trace of {shown.task_id} ({shown.kind} {shown.document.name})"
        self.out.print()
        self.out.print(span_tree(title, spans))
        self._judge(has_trace=bool(spans))

    def _say_what_was_left_out(self) -> None:
        if any(job.document.cut for job in self.jobs):
            self._say("* only the beginning of a large file was counted")
        for name, reason in self.found.skipped[:5]:
            self._say(f"skipped {name}: {reason}")
        if more := len(self.found.skipped) - 5:
            self._say(f"skipped {more} more") if more > 0 else None
        if self.found.beyond_limit:
            self._say(f"{self.found.beyond_limit} more files were left out: raise --limit")

    def _judge(self, *, has_trace: bool) -> None:
        """
        Raises:
            TaskFailed: something did not go as it should; names it.
        """
        if bad := [job for job in self.jobs if job.problem()]:
            first = bad[0]
            raise TaskFailed(
                f"{len(bad)} of {len(self.jobs)} tasks went wrong; the first: {first.kind} "
                f"{first.document.name}: {first.problem()}",
                "The JSON file has the details of each.",
            )
        if self.killed is None:
            self._say("the work was done before an arm could be killed")
        elif self.killed.attempt < 2:
            self._say("the killed arm had already handed in its results")
        if not has_trace:
            raise TaskFailed("no spans were exported", "Read the logs.")
        if alive := self._alive():
            raise TaskFailed(f"processes are left: {alive}", "End them with kill.", "INTERNAL")

    def _alive(self) -> list[int]:
        others = [psutil.Process(pid) for pid in self.pids if psutil.pid_exists(pid)]
        own = psutil.Process()
        _, alive = psutil.wait_procs([p for p in others if p.pid != own.pid], GONE_WITHIN_S)
        return [process.pid for process in alive]

    def _remove(self, data: Path, *, but_the_logs: bool = False) -> None:
        """Remove the stack's data; after a failure its logs are what one wants to read."""
        if self.keep:
            self._say(f"kept: {data} (logs, traces, database)")
            return
        for path in list(data.iterdir()) if data.is_dir() else []:
            if but_the_logs and path.name == "logs":
                continue
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if data.is_dir() and not any(data.iterdir()):
            data.rmdir()
        elif data.is_dir():
            self._say(f"logs: {data / 'logs'}")

    def _changed(self, line: str) -> None:
        if "ended" in line or "killed" in line:
            self._say(line)

    def _say(self, line: str) -> None:
        self.out.print(Text(clean(line)), soft_wrap=True)
