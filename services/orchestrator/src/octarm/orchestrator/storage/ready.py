"""Looking at READY: whether the schedulers have read what is in it."""

from typing import Final

from nats.aio.client import Client as NATS
from nats.errors import Error as NatsError

from octarm.common.bus.topology import scheduler_durable
from octarm.models.subjects import READY

TIMEOUT_S: Final = 2.0


class ReadyStream:
    """The READY messages of all shards."""

    def __init__(self, nc: NATS, shards: int) -> None:
        self._js = nc.jetstream(timeout=TIMEOUT_S)
        self._shards = shards

    async def is_read(self) -> bool:
        """Tell whether every message has been delivered to a scheduler; false when in doubt."""
        try:
            for shard in range(self._shards):
                info = await self._js.consumer_info(READY, scheduler_durable(shard))
                if info.num_pending:
                    return False
        except (NatsError, OSError, TimeoutError):
            return False
        return True
