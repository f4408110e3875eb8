"""Builders and fakes for the scheduler's tests."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec

from octarm.common.testing.fakes import NOON, FakeClock
from octarm.models.contracts import Tier
from octarm.models.errors import OctarmError
from octarm.models.hot import Heartbeat, PlaceTasks, ReadyTask, RunningAttempt
from octarm.models.ids import typeid, uuid7
from octarm.models.rejections import Rejection
from octarm.policies.builtin import DEFAULT
from octarm.policies.builtin.policy import Builtin
from octarm.policies.context import ArmFacts, ArmStatus
from octarm.policies.queue.arms import Arms
from octarm.scheduler.domain.fleet import Fleet
from octarm.scheduler.domain.queue import ShardQueue
from octarm.scheduler.domain.tasks import Hold, QueuedTask
from octarm.scheduler.usecases.decide import Decide, NoScripts, Scripts
from octarm.scheduler.usecases.desk import Desk
from octarm.scheduler.usecases.dispatch import Dispatch
from octarm.scheduler.usecases.place import PlaceTasks as Placer
from octarm.scheduler.usecases.ports import Pending, Recorded
from octarm.scheduler.usecases.reject import RejectTasks

NOON_S = NOON.timestamp()


def task_id(number: int) -> str:
    """The id of the task of that number; ids follow their numbers."""
    return typeid("tsk", uuid7(1_700_000_000_000 + number, 0))


def ready(
    number: int = 1,
    *,
    attempt: int = 1,
    tier: Tier = "interactive",
    priority: int = 5,
    needs: Sequence[str] = ("work",),
    arm: str | None = None,
    queued_at: datetime = NOON,
    deadline: datetime | None = None,
    traceparent: str = "",
    labels: dict[str, str] | None = None,
    slots: int = 1,
) -> ReadyTask:
    return ReadyTask(
        task_id(number),
        attempt,
        "default",
        tier,
        priority,
        list(needs),
        queued_at,
        msgspec.Raw(b'{"goal":"x"}'),
        arm,
        labels or {},
        deadline,
        traceparent,
        slots,
    )


def waiting(it: ReadyTask, hold: Hold | None = None) -> QueuedTask:
    return QueuedTask(it, hold or Hold(1, 1, lambda: None))


def an_empty_queue(fleet: Fleet | None = None) -> ShardQueue:
    """A queue for these arms, in place of the one that they served before."""
    queue = ShardQueue(DEFAULT, Arms(DEFAULT.prefer) if fleet is None else fleet.arms)
    if fleet is not None:
        fleet.serve(queue)
    return queue


def a_queue(*tasks: ReadyTask, fleet: Fleet | None = None) -> ShardQueue:
    queue = an_empty_queue(fleet)
    for it in tasks:
        queue.add(waiting(it), now=NOON_S)
    return queue


def an_empty_fleet(policy: Builtin = DEFAULT) -> Fleet:
    arms = Arms(policy.prefer, fit=policy.fit)
    return Fleet(arms, ShardQueue(policy, arms))


def facts(
    arm_id: str, *, tags: Sequence[str] = ("work",), status: ArmStatus = "online", cost: int = 1
) -> ArmFacts:
    return ArmFacts(arm_id, status, frozenset(tags), cost)


def beat(
    arm_id: str,
    slots: int = 1,
    running: Sequence[tuple[str, int] | tuple[str, int, int]] = (),
    *,
    instance: str = "i-1",
    status: str = "ready",
    interval_s: float = 5.0,
    provider_wait_s: float = 0.0,
) -> Heartbeat:
    reported = [RunningAttempt(*it) for it in running]
    return Heartbeat(
        arm_id,
        instance,
        1,
        status,
        slots,
        reported,
        interval_s=interval_s,
        provider_wait_s=provider_wait_s,
    )


def a_fleet(*arms: ArmFacts, slots: int = 1) -> Fleet:
    """These arms, each with one live instance of so many slots."""
    fleet = an_empty_fleet()
    for known in arms:
        fleet.learn(known, at_s=NOON_S)
        fleet.beat(beat(known.id, slots, interval_s=60), now=1000.0)
    return fleet


def a_desk(*arms: ArmFacts, slots: int = 1, capacity: int = 1000) -> Desk:
    fleet = a_fleet(*arms, slots=slots)
    return Desk(0, capacity, FakeClock(), an_empty_queue(fleet), fleet, leading=True)


class NoLedger:
    """Takes every rejection, and remembers it."""

    def __init__(self) -> None:
        self.rejected: list[Rejection] = []
        self.requests = 0
        self.failure: OctarmError | None = None

    async def reject(self, tasks: Sequence[Rejection]) -> None:
        self.requests += 1
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        self.rejected += tasks


def a_placer(
    desk: Desk,
    dispatch: Dispatch,
    scripts: Scripts | None = None,
    ledger: NoLedger | None = None,
) -> Placer:
    decide = Decide(desk, DEFAULT, scripts or NoScripts())
    return Placer(desk, dispatch, decide, RejectTasks(desk, ledger or NoLedger()))


PUBLISHED_AT = datetime(2026, 11, 21, 12, tzinfo=UTC)


class FakeDelivery:
    """A READY message; counts how often it was acknowledged."""

    def __init__(
        self,
        *tasks: ReadyTask,
        seq: int = 1,
        data: bytes | None = None,
        published_at: datetime = PUBLISHED_AT,
        deliveries: int = 1,
    ) -> None:
        self.data = msgspec.json.encode(PlaceTasks(list(tasks))) if data is None else data
        self.stream_seq = seq
        self.published_at = published_at
        self.deliveries = deliveries
        self.acked = 0

    def ack(self) -> None:
        self.acked += 1


@dataclass
class FakeDispatched:
    """A DISPATCH stream that holds what the test says."""

    commands: dict[str, list[Pending]] = field(default_factory=dict)
    below: int | None = None
    known: int = 1_000_000
    is_idle: bool = False
    last: int = 0
    forgotten: list[int] = field(default_factory=list)
    failure: OctarmError | None = None

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure

    async def pending(self, arm_id: str) -> list[Pending]:
        self._fail()
        return self.commands.get(arm_id, [])

    async def started_below(self, arm_id: str) -> int | None:
        self._fail()
        return self.below

    async def recorded(self) -> Recorded:
        self._fail()
        return Recorded(self.known, self.is_idle)

    async def last_seq(self) -> int:
        return self.last

    async def forget_leaders(self, shard: int) -> None:
        self.forgotten.append(shard)
