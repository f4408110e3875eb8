"""A READY message came: let its tasks wait."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final, Protocol

import msgspec

from octarm.common.bus.delivery import HELD, Dead, Outcome
from octarm.common.failpoints import failpoint
from octarm.models.hot import PlaceTasks, ReadyTask
from octarm.models.hot_types import NOT_UNDERSTOOD
from octarm.scheduler.domain.tasks import Hold, gone
from octarm.scheduler.usecases.desk import Desk

NOTHING: Final[Mapping[int, list[ReadyTask]]] = MappingProxyType({})
_decode = msgspec.json.Decoder(PlaceTasks).decode


class ReadyDelivery(Protocol):
    """The part of a delivery that is needed here."""

    data: bytes

    @property
    def stream_seq(self) -> int:
        """Its sequence in READY."""
        ...

    @property
    def deliveries(self) -> int:
        """How often it has been delivered, this time included."""
        ...

    @property
    def published_at(self) -> datetime:
        """When READY took it."""
        ...

    def ack(self) -> None:
        """Settle it; idempotent."""
        ...


@dataclass(frozen=True, slots=True)
class AdmitTasks:
    """Put the tasks of READY messages into the view; the messages stay unacknowledged.

    A message that comes again only renews the handle by which it is acknowledged; one with the
    number of another is from a READY that was made anew. One that does not parse is dead: no
    later delivery would parse either.
    """

    desk: Desk

    async def __call__(
        self, deliveries: Sequence[ReadyDelivery], read: Mapping[int, list[ReadyTask]] = NOTHING
    ) -> list[Outcome]:
        """Admit a batch of messages; gives one outcome each.

        `read` holds what has been decoded already, by stream sequence.
        """
        outcomes = [self._admit(delivery, read.get(delivery.stream_seq)) for delivery in deliveries]
        failpoint("ready_received")
        self.desk.poke()
        return outcomes

    def _admit(self, delivery: ReadyDelivery, tasks: list[ReadyTask] | None) -> Outcome:
        desk, seq = self.desk, delivery.stream_seq
        if (known := desk.holds.get(seq)) is not None:
            if known.published_at == delivery.published_at:
                known.settle = delivery.ack
                return HELD
            # Its own message is gone with the old stream: settling it would settle the new one.
            known.settle = gone
        try:
            tasks = tasks or _decode(delivery.data).tasks
        except NOT_UNDERSTOOD as error:
            return Dead(f"not PlaceTasks: {error}"[:500])
        hold = desk.holds[seq] = Hold(seq, len(tasks), delivery.ack, delivery.published_at)
        seen_ns, now = time.time_ns(), desk.now_s()
        for ready in tasks:
            desk.admit(ready, hold, seen_ns=seen_ns, now=now)
        return HELD
