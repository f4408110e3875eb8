"""The leaders of the other shards, who place on the same arms."""

from dataclasses import dataclass, field
from typing import Annotated, Final

from msgspec import Meta, Struct

from octarm.models.hot import ResultKey
from octarm.models.hot_types import Slots, TaskId
from octarm.policies.queue.headroom import Key
from octarm.scheduler.domain.turns import yield_s
from octarm.scheduler.usecases.desk import Desk

REMEMBERED: Final = 20_000


class Placed(Struct, frozen=True):
    """The part of a run command that matters here."""

    task_id: TaskId
    attempt: Annotated[int, Meta(ge=1)]
    slots: Slots = 1


class Placements(Struct, frozen=True):
    """What the leader of some shard has sent to an arm."""

    shard: int
    arm_id: str
    tasks: list[Placed]


@dataclass(slots=True)
class Rivals:
    """Counts what others place, and gives way in turns when a full arm gets a free slot.

    Two leaders that look at the same moment may still place on the same slot: the surplus
    waits in DISPATCH, and the ledger gives it up when it has not started by its lease.
    """

    desk: Desk
    shards: int
    _ended: dict[Key, None] = field(default_factory=dict)

    def placed(self, made: Placements) -> None:
        """Count what another leader placed; what has ended meanwhile is not."""
        if made.shard == self.desk.shard:
            return
        fleet, now = self.desk.fleet, self.desk.clock.monotonic()
        for it in made.tasks:
            key = (it.task_id, it.attempt)
            if key not in self._ended and fleet.flight(*key) is None:
                pool = fleet.pool(made.arm_id)
                flight = fleet.reserve(pool, key, now=now, slots=it.slots)
                fleet.headroom.placed_elsewhere(key, flight.pool.arm, now=self.desk.now_s())

    def ending(self, result: ResultKey) -> None:
        """Hear of a result before its slot is freed."""
        desk, key = self.desk, (result.task_id, result.attempt)
        flight = desk.fleet.flight(*key)
        if flight is None:
            # The news of its placement is still on its way.
            self._ended[key] = None
            if len(self._ended) > REMEMBERED:
                del self._ended[next(iter(self._ended))]
            return
        pool = flight.pool
        if pool.arm.used < pool.slots:
            return
        at_s = desk.now_s()
        wait_s = yield_s(pool.arm_id, shard=desk.shard, shards=self.shards, at_s=at_s)
        if wait_s:
            until = desk.clock.monotonic() + wait_s
            desk.fleet.pause(pool, until=until)
