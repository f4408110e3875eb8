"""A new leader begins: it shuts out its predecessors, then learns what they have left."""

import asyncio
from dataclasses import dataclass
from typing import Final

from octarm.common.bus.publisher import Fence, Outgoing, Publishes, Unacknowledged
from octarm.common.failpoints import failpoint
from octarm.common.telemetry import get_logger
from octarm.models.commands import LeadShard
from octarm.models.errors import OctarmError
from octarm.models.subjects import LEAD_SHARD
from octarm.scheduler.usecases.desk import Desk
from octarm.scheduler.usecases.ports import Dispatched

LOOK_AGAIN_S: Final = 0.05
LOOK_AT_MOST_S: Final = 0.5
SAID_AFTER_S: Final = 2.0
# What was removed is never recorded. That nothing waits is believed only when seen several
# times, because a message that was stored just now may not be counted yet.
IDLE_LOOKS: Final = 4

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
