"""Writes that come through the stream, in batches."""

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from octarm.common.bus.delivery import ACK, Dead, Delivery, Outcome
from octarm.common.failpoints import failpoint
from octarm.common.telemetry import metrics
from octarm.memory.usecases.lasting import KeepWrites
from octarm.models.hot_episodes import KeepWrites as Message
from octarm.models.hot_episodes import KeptWrite
from octarm.models.hot_types import NOT_UNDERSTOOD

_decode = msgspec.json.Decoder(Message).decode


class WritesFromStream:
    """The batch handler of the durable `memory-keep-writes`."""

    def __init__(self, keep: KeepWrites) -> None:
        self._keep = keep

    async def __call__(self, deliveries: list[Delivery]) -> Sequence[Outcome]:
        """Keep a batch: a message with a write that can never be kept is dead, the rest is kept.

        Raises:
            Unavailable: Postgres does not answer; the runner asks for the batch again.
        """
        outcomes: list[Outcome] = [ACK] * len(deliveries)
        writes: list[KeptWrite] = []
        places: list[int] = []
        for place, delivery in enumerate(deliveries):
            try:
                message = _decode(delivery.data)
            except NOT_UNDERSTOOD as error:
                outcomes[place] = Dead(f"no writes of episodes: {error}")
                continue
            writes += message.writes
            places += [place] * len(message.writes)
        failpoint("episode_before_commit")
        refused = await self._keep(writes) if writes else {}
        for number, why in refused.items():
            outcomes[places[number]] = Dead(why)
        if deliveries:
            late = datetime.now(UTC) - deliveries[0].published_at
            metrics.put("octarm_memory_write_lag_seconds", max(0.0, late.total_seconds()))
        failpoint("episode_before_ack")
        return outcomes
