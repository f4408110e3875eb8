"""Hand the jobs in, watch them, kill one arm in the middle, and wait for the end."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Protocol

from octarm.cli.demo.jobs import Job, submission
from octarm.cli.http import Gateway
from octarm.models.errors import TimedOut

POLL_S: Final = 0.25
ASKED_AT_ONCE: Final = 24
PATIENCE_S: Final = 300.0
VICTIM: Final = "llm"


class Watcher(Protocol):
    """Is told what happens."""

    def finished(self, job: Job) -> None:
        """A job is over."""

    def say(self, line: str) -> None:
        """Something worth a line happened."""


@dataclass(slots=True)
class Work:
    """Everything to be done in one run; `kill` ends the process of a role with SIGKILL."""

    gateway: Gateway
    jobs: list[Job]
    watcher: Watcher
    kill: Callable[[str], None]
    run: str
    stop: threading.Event = field(default_factory=threading.Event)
    killed: Job | None = None

    def __call__(self) -> None:
        """Do it all; blocks, and returns early once `stop` is set.

        Raises:
            OctarmError: the gateway refuses a task, or nothing moves any more.
        """
        for number, job in enumerate(self.jobs):
            # One request a task, so that each task is a trace of its own.
            key = {"idempotency-key": f"demo-{self.run}-{number}"}
            job.task_id = self.gateway.post("/v1/tasks", submission(job, self.run), key)["task_id"]
        moved_at = time.monotonic()
        while open_jobs := [job for job in self.jobs if not job.is_over]:
            if self.stop.wait(POLL_S):
                return
            # Everything is asked about in turn, not all at once: there may be hundreds.
            moved = [self._look_at(job) for job in _in_turn(open_jobs)]
            if any(moved):
                moved_at = time.monotonic()
            self._maybe_kill()
            if time.monotonic() - moved_at > PATIENCE_S:
                raise TimedOut(
                    f"nothing moved for {PATIENCE_S:.0f} s; {len(open_jobs)} tasks are open",
                    "Read the logs; another demo or test on this machine may be in its way.",
                )

    def _look_at(self, job: Job) -> bool:
        before = (job.state, job.attempt)
        job.take(self.gateway.get(f"/v1/tasks/{job.task_id}/result"))
        if job.attempt > max(1, before[1]):
            self.watcher.say(f"attempt {job.attempt} of {job.kind} {job.document.name}")
        if job.is_over:
            self.watcher.finished(job)
        return before != (job.state, job.attempt)

    def _maybe_kill(self) -> None:
        """Kill the arm while it works, once a third of its jobs is done."""
        if self.killed is not None:
            return
        mine = [job for job in self.jobs if job.kind == "summarise"]
        done = sum(job.is_over for job in mine)
        running = next((job for job in mine if job.state == "running"), None)
        if running is not None and done >= len(mine) // 3:
            self.killed = running
            self.kill(VICTIM)
            self.watcher.say(f"killed the arm {VICTIM} (kill -9) in the middle of its work")


def _in_turn(jobs: list[Job]) -> list[Job]:
    """The running ones, and some of the others: a different part each time."""
    running = [job for job in jobs if job.state == "running"]
    others = [job for job in jobs if job.state != "running"]
    start = int(time.monotonic() / POLL_S) * ASKED_AT_ONCE % max(1, len(others))
    return running + list(islice(others[start:] + others[:start], ASKED_AT_ONCE))
