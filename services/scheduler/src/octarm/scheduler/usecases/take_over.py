"""A new leader begins: it shuts out its predecessors, then learns what they have left."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

from octarm.common.bus.publisher import Fence, Outgoing, Publishes, Unacknowledged
from octarm.common.failpoints import failpoint
from octarm.common.telemetry import get_logger
from octarm.models.commands import LeadShard
from octarm.models.errors import OctarmError
from octarm.models.policies import DecisionRecord, FindDecisions
from octarm.models.subjects import LEAD_SHARD, shard_of
from octarm.policies.queue.tasks import TIERS, Task
from octarm.scheduler.usecases.desk import Desk
from octarm.scheduler.usecases.ports import Dispatched

LOOK_AGAIN_S: Final = 0.05
LOOK_AT_MOST_S: Final = 0.5
SAID_AFTER_S: Final = 2.0
# What was removed is never recorded. That nothing waits is believed only when seen several
# times, because a message that was stored just now may not be counted yet.
IDLE_LOOKS: Final = 4
_EVER: Final = datetime(2000, 1, 1, tzinfo=UTC)
_NEVER: Final = datetime(2200, 1, 1, tzinfo=UTC)

log = get_logger()


@dataclass(frozen=True, slots=True)
class WaitForLedger:
    """Wait until the ledger knows everything that DISPATCH holds up to a sequence."""

    desk: Desk
    dispatched: Dispatched

    async def __call__(self, seq: int, lost: asyncio.Event) -> bool:
        """Return once it does, or false when `lost` is set.

        Raises:
            Unavailable: DISPATCH cannot be looked into now.
        """
        began, pause_s, said = self.desk.clock.monotonic(), LOOK_AGAIN_S, False
        idle = 0
        while (recorded := await self.dispatched.recorded()).up_to < seq:
            idle = idle + 1 if recorded.all_of_it else 0
            if lost.is_set() or idle == IDLE_LOOKS:
                break
            if not said and self.desk.clock.monotonic() - began > SAID_AFTER_S:
                said = True
                log.warning("waiting_for_the_ledger", shard=self.desk.shard, dispatch_seq=seq)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LOOK_AT_MOST_S)
        return not lost.is_set()


@dataclass(frozen=True, slots=True)
class TakeOver:
    """Fence off earlier leaders; rebuild the attempts in flight from heartbeats and DISPATCH.

    Once the fence stands, nothing of theirs can come any more; once the ledger has read up to
    it, the ledger knows each attempt that they have dispatched.
    """

    desk: Desk
    dispatched: Dispatched
    bus: Publishes
    leader: str

    async def __call__(self, lost: asyncio.Event) -> Fence | None:
        """Give the fence for all that this leader dispatches; None when `lost` is set before.

        Raises:
            OctarmError: the bus does not take or tell what is needed now.
        """
        fence = await self._fence(lost)
        failpoint("shard_fenced")
        if fence is None or not await WaitForLedger(self.desk, self.dispatched)(fence.seq, lost):
            return None
        await self.dispatched.forget_leaders(self.desk.shard)
        await self._count_flights()
        return fence

    async def _fence(self, lost: asyncio.Event) -> Fence | None:
        subject = LEAD_SHARD.at(shard=self.desk.shard)
        body = LeadShard(shard=self.desk.shard, leader=self.leader[:1000])
        msg_id = f"l:{self.leader}:{self.desk.clock.now().timestamp():.6f}"
        message = Outgoing(subject, body.model_dump_json().encode(), msg_id)
        # A leader that has stood still must not shut out the one that came after it.
        while self.desk.may_place() and not lost.is_set():
            (answer,) = await self.bus.publish_many([message])
            if not isinstance(answer, OctarmError):
                return Fence(subject, answer.seq)
            if not isinstance(answer, Unacknowledged):
                raise answer
        return None

    async def _count_flights(self) -> None:
        desk, now = self.desk, self.desk.clock.monotonic()
        desk.fleet.land(now=now)
        for pool in [it for it in desk.fleet.pools.values() if it.listed]:
            for command in await self.dispatched.pending(pool.arm_id):
                key = (command.task_id, command.attempt)
                flight = desk.fleet.reserve(pool, key, now=now, slots=command.slots)
                flight.dispatch_seq = command.seq


class Ledger(Protocol):
    """The part of the orchestrator's client that is needed."""

    async def decisions(self, wanted: FindDecisions) -> tuple[list[bytes], str | None]:
        """Give a page of `DecisionRecord`s, each as its JSON, and where the next page begins."""
        ...


@dataclass(frozen=True, slots=True)
class AdoptFlights:
    """Count what earlier leaders have placed where limits by key look at it.

    Heartbeats and DISPATCH name attempts only; whose they are and what is on their labels the
    ledger knows. One that has ended since it answered is found by the sweep of suspects.
    """

    desk: Desk
    ledger: Ledger
    shards: int

    async def __call__(self) -> None:
        """
        Raises:
            OctarmError: the ledger does not answer now; half of it counted is no harm.
        """
        if not self.desk.queue.board.limits.rules:
            return
        after: str | None = None
        while True:
            page = FindDecisions(since=_EVER, until=_NEVER, under_way=True, after=after)
            lines, after = await self.ledger.decisions(page)
            for line in lines:
                self._adopt(DecisionRecord.model_validate_json(line))
            if after is None:
                return

    def _adopt(self, it: DecisionRecord) -> None:
        own = shard_of(it.tenant, it.task_id, self.shards) == self.desk.shard
        if it.arm_id is None or not own:
            return
        task = Task(
            it.task_id,
            queued_at=it.queued_at,
            tenant=it.tenant,
            tier=TIERS.index(it.tier),
            priority=it.priority,
            needs=frozenset(it.needs),
            labels=it.labels,
            assigned_arm=it.assigned_arm,
            attempt=it.attempt,
            slots=it.slots,
        )
        clock = self.desk.clock
        now, at_s = clock.monotonic(), clock.now().timestamp()
        self.desk.fleet.adopt(it.arm_id, task, now=now, at_s=at_s)
