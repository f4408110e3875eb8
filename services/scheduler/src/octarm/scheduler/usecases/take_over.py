"""A new leader begins: what is under way, by what the arms and DISPATCH say."""

from dataclasses import dataclass

from octarm.scheduler.usecases.desk import Desk
from octarm.scheduler.usecases.ports import Dispatched


@dataclass(frozen=True, slots=True)
class TakeOver:
    """Rebuild the attempts in flight from heartbeats and from DISPATCH."""

    desk: Desk
    dispatched: Dispatched

    async def __call__(self) -> int:
        """Rebuild; gives the number of attempts in flight.

        Raises:
            Unavailable: DISPATCH cannot be looked into now.
        """
        desk, now = self.desk, self.desk.clock.monotonic()
        desk.fleet.land(now=now)
        for arm in list(desk.fleet.arms.values()):
            if arm.facts is None:
                continue
            for command in await self.dispatched.pending(arm.arm_id):
                flight = desk.fleet.reserve(arm, (command.task_id, command.attempt), now=now)
                flight.dispatch_seq, flight.found = command.seq, True
        return sum(len(arm.flights) for arm in desk.fleet.arms.values())
