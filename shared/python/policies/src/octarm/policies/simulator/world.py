"""One load under one policy, in virtual time.

What waits, what may go where and what a policy may do are decided by the same code as in the
scheduler; arrivals, durations and failures are the load's. Time jumps from event to event.
"""

import heapq
from collections import deque
from collections.abc import Iterator
from itertools import count
from typing import Final

import msgspec

from octarm.policies.builtin import fair_share
from octarm.policies.builtin.policy import Builtin
from octarm.policies.context import ArmStatus
from octarm.policies.queue.admission import Refused, admit, admit_accepted
from octarm.policies.queue.arm import Arm
from octarm.policies.queue.cycle import place
from octarm.policies.queue.homes import Homes
from octarm.policies.queue.tasks import Task
from octarm.policies.simulator.asking import Asking
from octarm.policies.simulator.deciders import Decider
from octarm.policies.simulator.jobs import Job
from octarm.policies.simulator.load import Load
from octarm.policies.simulator.outcome import Outcome, outcome
from octarm.policies.simulator.surroundings import outages_of, places_of, queue_of
from octarm.policies.simulator.tally import Tally

HEARTBEAT_S: Final = 5.0
SAMPLES: Final = 500
CYCLE_WINDOW: Final = 4096
SMOOTHING: Final = 0.1


# When, a serial number, whose, the attempt that ends then (None: it waits again), whether it fails.
_Event = tuple[float, int, Job, Task | None, bool]


class World:
    """The queue, the arms and what happens to them."""

    def __init__(self, load: Load, policy: Builtin | Decider) -> None:
        self.load = load
        self.now = 0.0
        self.tally = Tally()
        builtin = policy if isinstance(policy, Builtin) else fair_share.POLICY
        self.queue = queue_of(load, builtin)
        self._asking = None if isinstance(policy, Builtin) else Asking(policy, load)
        self._homes = Homes()
        self._places = places_of(load, self.queue.arms)
        self._outages = deque(outages_of(load))
        self._weights = {it.name: it.weight for it in load.tenants}
        self._events: list[_Event] = []
        self._serial = count()

    def run(self, jobs: Iterator[Job]) -> None:
        """Let everything happen, until all has ended or the load's time is over."""
        end_s, step_s = self.load.duration_s + self.load.drain_s, self.load.cycle_ms / 1000
        sample_step_s, beat_s, sample_s = self.load.duration_s / SAMPLES, 0.0, 0.0
        coming = next(jobs, None)
        while True:
            at_s = self._next_s(coming)
            if at_s is None or at_s > end_s:
                break
            # Changes within a step share a cycle, as they do while a real one runs.
            self.now = now = max(at_s + step_s, self.now)
            while sample_s <= min(now, 2 * self.load.duration_s):
                self._sample(sample_s)
                sample_s += sample_step_s
            if beat_s <= now:
                self._beat()
                beat_s = now + HEARTBEAT_S
            while coming is not None and coming.at_s <= now:
                self._arrive(coming)
                coming = next(jobs, None)
            self._happen(now)
            self._cycle(now)
        for task in self.queue:
            self._starved(task, min(self.now, end_s))

    def _next_s(self, coming: Job | None) -> float | None:
        """Say when something happens next; None when nothing ever will."""
        times = [self._events[0][0]] if self._events else []
        if coming is not None:
            times.append(coming.at_s)
        if len(self.queue):
            times += [at for at in (self.queue.next_timer(), self._again_s()) if at is not None]
            if self._outages:
                times.append(self._outages[0][0])
        return min(times, default=None)

    def _again_s(self) -> float | None:
        return None if self._asking is None else self._asking.again_s

    def _arrive(self, job: Job) -> None:
        kind, tally = job.kind, self.tally
        job.stream = stream = tally.stream(kind.tier, kind.tenant)
        stream.arrived += 1
        stream.with_deadline += kind.deadline_s is not None
        self._wait(job, 1, job.at_s)

    def _wait(self, job: Job, attempt: int, at_s: float) -> None:
        """Let an attempt of a job wait; what may not is refused, or dropped for it.

        `reject` refuses fresh tasks before they are accepted. What has been accepted waits, a
        retry too, unless the full policy drops it: the scheduler does the same.
        """
        kind = job.kind
        task = Task(
            job.task_id,
            queued_at=at_s,
            tenant=kind.tenant,
            tier=kind.tier,
            priority=kind.priority,
            needs=kind.needs,
            labels=job.labels,
            assigned_arm=kind.assigned_arm,
            attempt=attempt,
            deadline=None if kind.deadline_s is None else job.at_s + kind.deadline_s,
            slots=kind.slots,
            est_s=kind.est_s,
            est_cost=kind.est_cost,
            tokens=kind.tokens,
            payload=job,
        )
        accepted = attempt > 1 or self.queue.rules.full != "reject"
        admitted = (admit_accepted if accepted else admit)(self.queue, task, now=self.now)
        if isinstance(admitted, Refused):
            job.stream.rejected += 1
        elif admitted.dropped is not None:
            _job_of(admitted.dropped).stream.rejected += 1

    def _happen(self, now: float) -> None:
        """Let end, or wait again, whatever is due."""
        events = self._events
        while events and events[0][0] <= now:
            at_s, _, job, task, failed = heapq.heappop(events)
            if task is None:
                self._wait(job, job.attempts + 1, at_s)
            else:
                self._end(job, task, failed, at_s)
        while self._outages and self._outages[0][0] <= now:
            _, arm_id, online = self._outages.popleft()
            arm = self.queue.arms.by_id[arm_id]
            status: ArmStatus = "online" if online else "offline"
            self.queue.arms.learn(msgspec.structs.replace(arm.facts, status=status), now=now)

    def _end(self, job: Job, task: Task, failed: bool, at_s: float) -> None:
        flight = self.queue.land(task.task_id, task.attempt)
        if self._asking is not None and flight is not None:
            place_ = self._places[flight.arm.facts.id]
            took_s, cost = place_.costs(task, job.attempt(task.attempt, 0.0)[0])
            self._asking.ended(place_.arm.facts.id, task, took_s=took_s, cost=cost, failed=failed)
        if not failed:
            job.stream.completed += 1
            job.stream.in_time += task.deadline is not None and at_s <= task.deadline
        elif task.attempt < self.load.retries.max_attempts:
            self.tally.retried += 1
            job.attempts = task.attempt
            again_s = at_s + self.load.retries.backoff_s
            heapq.heappush(self._events, (again_s, next(self._serial), job, None, False))
        else:
            job.stream.failed += 1

    def _cycle(self, now: float) -> None:
        tally, queue = self.tally, self.queue
        if not len(queue):
            return
        tally.cycles += 1
        for task in queue.tick(now):
            _job_of(task).stream.overdue += 1
            self._starved(task, now)
        if self._asking is None:
            for decision in place(queue, self._homes, now=now, window=CYCLE_WINDOW):
                self._send(decision.task, decision.arm, now)
        else:
            sent, rejected = self._asking.cycle(queue, self._homes, tally, now=now)
            for it in sent:
                self._send(it.task, it.arm, now)
            for task in rejected:
                _job_of(task).stream.rejected += 1

    def _send(self, task: Task, arm: Arm, now: float) -> None:
        job, place_ = _job_of(task), self._places[arm.facts.id]
        pool, tally = place_.pool, self.tally
        if not job.placed:
            job.placed = True
            job.stream.waits_s.append(now - job.at_s)
            self._starved(task, now)
        work_s, failed = job.attempt(task.attempt, pool.failure_rate)
        took_s, cost = place_.costs(task, work_s)
        heapq.heappush(self._events, (now + took_s, next(self._serial), job, task, failed))
        place_.latency_s += SMOOTHING * (took_s - place_.latency_s)
        place_.success += SMOOTHING * ((not failed) - place_.success)
        place_.heard = True
        tally.placed += 1
        tally.promoted += task.promoted
        tally.busy_s[arm.facts.id] += took_s * task.slots
        tally.cost += cost

    def _starved(self, task: Task, now: float) -> None:
        job = _job_of(task)
        job.stream.starved += now - job.at_s > self.load.starved_after_s

    def _beat(self) -> None:
        """Let the arms that have worked report themselves."""
        for it in self._places.values():
            if it.heard:
                it.heard = False
                self.queue.arms.report(
                    it.arm,
                    slots=it.arm.slots,
                    load=it.arm.used / it.arm.slots,
                    latency_s=it.latency_s,
                    success=it.success,
                )

    def _sample(self, at_s: float) -> None:
        tally, queue = self.tally, self.queue
        arms = queue.arms.by_id.values()
        tally.times_s.append(at_s)
        tally.depths.append(len(queue))
        tally.used.append(sum(arm.used for arm in arms))
        tally.slots.append(sum(arm.slots for arm in arms if arm.facts.status == "online"))
        waiting = [name for name, some in queue.waiting.items() if some]
        if len(waiting) > 1:
            for name in waiting:
                tally.fair_use[name] += queue.running[name] / self._weights.get(name, 1.0)
                tally.fair_samples[name] += 1


def _job_of(task: Task) -> Job:
    job = task.payload
    assert isinstance(job, Job), "every task here is a job's"
    return job


def simulated(load: Load, policy: Builtin | Decider, jobs: Iterator[Job], seed: int) -> Outcome:
    """Run one load under one policy; jobs are made anew for each run."""
    world = World(load, policy)
    world.run(jobs)
    return outcome(
        world.tally,
        policy=policy.name,
        load=load.name,
        seed=seed,
        makespan_s=world.now,
        left=len(world.queue),
    )
