"""Send placed tasks to their arms in bundles; a bundle is dispatch and announcement at once."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Final

import msgspec

from octarm.common.bus.publisher import (
    Fence,
    Fenced,
    Outgoing,
    Publishes,
    Unacknowledged,
    trace_head,
)
from octarm.common.failpoints import failpoint
from octarm.common.telemetry import get_logger, metrics, tracing
from octarm.models.errors import OctarmError
from octarm.models.hot import RunTask, RunTasks
from octarm.models.subjects import RUN_TASKS
from octarm.scheduler.domain.cycle import Placement
from octarm.scheduler.domain.fleet import Pool
from octarm.scheduler.usecases.desk import Desk

MAX_BUNDLE_BYTES: Final = 512 * 1024
AROUND_A_TASK: Final = 768
PAUSE_S: Final = 1.0
SPAN: Final = "scheduler.place"

log = get_logger()
_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Bundle:
    """What goes to one arm in one message; `sent_on` is the connection it first went out on."""

    pool: Pool
    decisions: list[Placement]
    message: Outgoing
    sent_on: int


class Dispatch:
    """Publishes bundles behind the leader's fence, each until it is known what became of it.

    A READY message is acknowledged once the stream has what came of its tasks. `deposed` says
    that this leader has to stop: its fence has fallen, or a server that was started anew may
    have forgotten that it had a bundle. The next take-over finds out what was dispatched.
    """

    def __init__(
        self,
        desk: Desk,
        bus: Publishes,
        fence: Fence,
        *,
        connection: Callable[[], int] = lambda: 0,
    ) -> None:
        self._desk = desk
        self._bus = bus
        self._fence = fence
        self._connection = connection
        self._unsettled: list[Bundle] = []
        self._subjects: dict[str, str] = {}
        self.deposed = False

    @property
    def unsettled(self) -> int:
        """How many bundles nobody has acknowledged or refused."""
        return len(self._unsettled)

    async def __call__(
        self, decisions: Sequence[Placement], now: datetime, *, policy: str = ""
    ) -> int:
        """Publish these, and what is unsettled once more; gives the number of tasks placed.

        `policy` names the one that decided, as name or name@digest.
        """
        bundles, self._unsettled = self._unsettled, []
        connection = self._connection()
        if any(bundle.sent_on != connection for bundle in bundles):
            log.warning("dispatch_in_doubt", shard=self._desk.shard, bundles=len(bundles))
            self.deposed = True
            return 0
        for pool, some in _by_arm(decisions):
            message = self._message(pool, some, now, policy=policy)
            bundles.append(Bundle(pool, some, message, connection))
        answers = await self._bus.publish_many([bundle.message for bundle in bundles])
        failpoint("dispatch_before_ack")
        placed = 0
        for bundle, answer in zip(bundles, answers, strict=True):
            if isinstance(answer, Unacknowledged):
                self._unsettled.append(bundle)
            elif isinstance(answer, Fenced):
                self.deposed = True
            elif isinstance(answer, OctarmError):
                self._undo(bundle, answer)
            else:
                placed += self._placed(bundle, answer.seq, now)
        if self.deposed:
            log.warning("another_leads", shard=self._desk.shard)
        return placed

    def _message(
        self, pool: Pool, decisions: list[Placement], now: datetime, *, policy: str
    ) -> Outgoing:
        arm_id, digest = pool.arm_id, blake2b(digest_size=16)
        # The step began with this cycle.
        tasks, began_ns, ended_ns = [], int(now.timestamp() * 1e9), time.time_ns()
        for decision in decisions:
            ready, traceparent = decision.task.ready, decision.task.ready.traceparent
            if tracing.is_sampled(traceparent):
                traceparent = _traced(decision, policy, began_ns, ended_ns)
            tasks.append(
                RunTask(
                    ready.task_id,
                    ready.attempt,
                    ready.task,
                    traceparent,
                    decision.reason,
                    decision.scores,
                    ready.slots,
                )
            )
            digest.update(b"%b:%d;" % (ready.task_id.encode(), ready.attempt))
        digest.update(b"%d:%b" % (self._desk.shard, arm_id.encode()))
        subject = self._subjects.get(arm_id)
        if subject is None:
            subject = self._subjects[arm_id] = RUN_TASKS.at(arm_id=arm_id)
        payload = _encode(RunTasks(self._desk.shard, arm_id, now, policy, tasks))
        head = trace_head(tasks[0].traceparent) if len(tasks) == 1 else b""
        return Outgoing(subject, payload, f"d:{digest.hexdigest()}", head, self._fence)

    def _placed(self, bundle: Bundle, seq: int, now: datetime) -> int:
        desk, first = self._desk, now.timestamp()
        flights, slowest = bundle.pool.flights, ""
        for decision in bundle.decisions:
            task = decision.task
            flight = flights.get((task.ready.task_id, task.ready.attempt))
            if flight is not None:
                flight.dispatch_seq, flight.task = seq, task
            if task.queued_at < first:
                first, slowest = task.queued_at, task.ready.traceparent
            desk.finish(task.hold)
        waited_s = now.timestamp() - first
        metrics.observe("octarm_scheduler_placement_seconds", waited_s, traceparent=slowest)
        return len(bundle.decisions)

    def _undo(self, bundle: Bundle, error: OctarmError) -> None:
        """Let the tasks wait again; the arm is left alone for a moment.

        What no retry can mend is dropped, so that it does not keep others from the arm; the
        ledger tells of it again when it has been queued for long.
        """
        desk, pool = self._desk, bundle.pool
        for decision in bundle.decisions:
            task = decision.task
            desk.fleet.release(task.task_id, task.attempt)
            newer = desk.queue.get(task.task_id)
            if newer is None and error.retryable and not desk.queue.ended(*task.key):
                desk.queue.add(task, now=desk.now_s())
            else:
                desk.done(task)
        if not error.retryable:
            names = [decision.task.task_id for decision in bundle.decisions]
            log.error("dispatch_refused", task_ids=names, error=error.message)
            return
        if not pool.paused_until:
            log.warning("dispatch_failed", arm_id=pool.arm_id, error=error.message)
        desk.fleet.pause(pool, until=desk.clock.monotonic() + PAUSE_S)


def _traced(decision: Placement, policy: str, began_ns: int, ended_ns: int) -> str:
    """Trace the placing of a sampled task; how long it waited before the span only says."""
    ready = decision.task.ready
    own = tracing.child(ready.traceparent)
    common = (ready.attempt, decision.pool.arm_id, policy, decision.reason)
    waited_s = max(0, began_ns - decision.task.seen_ns) / 1e9
    tracing.passed(
        tracing.Hop(
            *(SPAN, ready.traceparent, own, began_ns, ended_ns, ready.task_id, common, waited_s)
        )
    )
    return own


def _by_arm(decisions: Sequence[Placement]) -> Iterator[tuple[Pool, list[Placement]]]:
    """Put what goes to the same arm together, as far as one message may carry it."""
    open_bundles: dict[Pool, tuple[list[Placement], int, int]] = {}
    for decision in decisions:
        pool, task = decision.pool, decision.task
        size = len(task.ready.task) + AROUND_A_TASK
        some, so_far, slots = open_bundles.get(pool, ([], 0, 0))
        # One instance takes all of a bundle, so that is counted in slots.
        if some and (slots + task.slots > pool.bundle or so_far + size > MAX_BUNDLE_BYTES):
            yield pool, some
            some, so_far, slots = [], 0, 0
        some.append(decision)
        open_bundles[pool] = some, so_far + size, slots + task.slots
    for pool, (some, _, _) in open_bundles.items():
        yield pool, some
