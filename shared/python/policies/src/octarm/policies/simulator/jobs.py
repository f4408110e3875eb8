"""The tasks that come in, by a load's streams or by a record: the same for every policy."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Final

from octarm.policies.queue.tasks import BATCH, INTERACTIVE, SESSION_LABEL
from octarm.policies.simulator.arrivals import arrivals, durations
from octarm.policies.simulator.load import Load, Tasks
from octarm.policies.simulator.records import Recording
from octarm.policies.simulator.tally import Stream

NOWHERE: Final = Stream()
# Numbers without a pattern, for the luck of later attempts (golden ratio).
_STEP: Final = 0.6180339887498949


@dataclass(frozen=True, slots=True)
class Kind:
    """What tasks of one stream have in common."""

    tenant: str
    tier: int
    priority: int
    needs: frozenset[str]
    labels: dict[str, str]
    slots: int
    tokens: int
    deadline_s: float | None
    failure_rate: float
    est_s: float
    est_cost: int
    assigned_arm: str | None = None


class Job:
    """A task that comes: `work_s` is what an attempt takes at speed 1, `luck` decides failures.

    `recorded` has duration and failure of each attempt where they were recorded. `stream`,
    `placed` and `attempts` are the run's own, so each run needs jobs of its own.
    """

    __slots__ = (
        "at_s",
        "attempts",
        "kind",
        "labels",
        "luck",
        "placed",
        "recorded",
        "stream",
        "task_id",
        "work_s",
    )

    def __init__(
        self, task_id: str, at_s: float, kind: Kind, *, work_s: float, luck: float = 1.0
    ) -> None:
        self.task_id = task_id
        self.at_s = at_s
        self.kind = kind
        self.labels = kind.labels
        self.work_s = work_s
        self.luck = luck
        self.placed = False
        self.attempts = 0
        self.stream: Stream = NOWHERE
        self.recorded: tuple[tuple[float, bool], ...] = ()

    def attempt(self, number: int, arm_failure_rate: float) -> tuple[float, bool]:
        """Say what an attempt takes at speed 1, and whether it fails."""
        if self.recorded:
            return self.recorded[min(number, len(self.recorded)) - 1]
        rate = 1 - (1 - arm_failure_rate) * (1 - self.kind.failure_rate)
        return self.work_s, (self.luck + (number - 1) * _STEP) % 1.0 < rate


def generated(load: Load, seed: int) -> Iterator[Job]:
    """Give the tasks of all streams of a load, in the order of their arrival."""
    streams = [_stream(load, number, tasks, seed) for number, tasks in enumerate(load.tasks)]
    return heapq.merge(*streams, key=lambda job: (job.at_s, job.task_id))


def _stream(load: Load, number: int, tasks: Tasks, seed: int) -> Iterator[Job]:
    looks = Random(f"{seed}/{number}/{tasks.name}/looks")  # noqa: S311 - no secret
    times = Random(f"{seed}/{number}/{tasks.name}/times")  # noqa: S311 - no secret
    works = Random(f"{seed}/{number}/{tasks.name}/works")  # noqa: S311 - no secret
    kind = Kind(
        tenant=tasks.tenant,
        tier=BATCH if tasks.tier == "batch" else INTERACTIVE,
        priority=tasks.priority,
        needs=tasks.needs,
        labels=tasks.labels,
        slots=tasks.slots,
        tokens=tasks.tokens,
        deadline_s=tasks.deadline_s,
        failure_rate=tasks.failure_rate,
        est_s=tasks.duration.mean_s,
        est_cost=tasks.est_cost,
    )
    # A generator each: how long tasks take, or how many sessions there are, must not change when
    # they come.
    work = durations(tasks.duration, works)
    for count, at_s in enumerate(arrivals(tasks.arrivals, times, load.duration_s), 1):
        job = Job(f"{tasks.name}-{count:07}", at_s, kind, work_s=work(), luck=looks.random())
        if tasks.sessions:
            session = f"{tasks.name}-{looks.randrange(tasks.sessions)}"
            job.labels = {**tasks.labels, SESSION_LABEL: session}
        yield job


def replayed(recording: Recording) -> Iterator[Job]:
    """Give the tasks of a record, in the order of their arrival."""
    for task_id, attempts in recording.tasks:
        first = attempts[0]
        kind = Kind(
            tenant=first.tenant,
            tier=BATCH if first.tier == "batch" else INTERACTIVE,
            priority=first.priority,
            needs=frozenset(first.needs),
            labels=first.labels,
            slots=first.slots,
            tokens=first.tokens,
            deadline_s=None if first.deadline is None else first.deadline - first.queued_at,
            failure_rate=0.0,
            est_s=recording.mean_s,
            est_cost=0,
            assigned_arm=first.assigned_arm,
        )
        job = Job(task_id, first.queued_at - recording.began, kind, work_s=recording.mean_s)
        job.recorded = tuple(
            (recording.mean_s if it.took_s is None else it.took_s, it.status == "failure")
            for it in attempts
        )
        yield job
