"""How far Postgres is behind what was acknowledged, and Redis behind Postgres: measured.

Redis is written first, so what it serves is never behind Postgres while all goes as it should; and
the lag of what is drained says nothing when nothing is drained.
"""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Final, Protocol

import msgspec

from octarm.common import telemetry
from octarm.common.clock import set_within
from octarm.common.telemetry import metrics
from octarm.memory.domain.entries import Whole, fold
from octarm.memory.usecases.ports import Episodes, Front, FrontDown, Key
from octarm.models.errors import OctarmError

LOOK_EVERY_S: Final = 5.0

log = telemetry.get_logger()
_decode = msgspec.json.Decoder(Whole).decode


class Behind(Protocol):
    """The stream on its way to Postgres."""

    async def behind_s(self) -> float:
        """Give the seconds for which its oldest write has waited; raises Unavailable."""
        ...


@dataclass(slots=True)
class WatchStaleness:
    """Compare what Redis last served with what Postgres has; what is stale is taken away."""

    kept: Episodes
    front: Front
    stream: Behind
    served: Key | None = None
    _whole_at: float = field(default_factory=time.monotonic, init=False)

    def note(self, key: Key) -> None:
        """Note that Redis served an episode."""
        self.served = key

    async def run(self, stop: asyncio.Event) -> None:
        """Look until `stop` is set."""
        while not stop.is_set():
            try:
                metrics.put("octarm_memory_write_lag_seconds", await self.stream.behind_s())
                metrics.put("octarm_memory_staleness_seconds", await self.look())
            except (OctarmError, FrontDown) as error:
                log.warning("staleness_unknown", error=type(error).__name__)
            await set_within(stop, LOOK_EVERY_S)

    async def look(self) -> float:
        """Give for how many seconds, at most, Redis may have served too little; 0: it has all.

        Raises:
            Unavailable: Postgres does not answer.
            FrontDown: Redis does not.
        """
        key, self.served = self.served, None
        # Postgres first: what it has by now was in Redis before.
        kept = await self.kept.get(*key) if key else None
        cached = await self.front.get(*key) if key else None
        now = time.monotonic()
        if key is None or kept is None or cached is None or cached.body is None:
            return 0.0
        if not _lacks(_decode(cached.body), fold(kept.base.body.encode(), kept.entries)):
            self._whole_at = now
            return 0.0
        metrics.inc("octarm_memory_stale_total")
        log.error("front_is_stale", episode_id=key[1])
        await self.front.drop([key])
        return now - self._whole_at


def _lacks(front: Whole, kept: Whole) -> bool:
    return (kept.closed and not front.closed) or any(
        len(getattr(front, name)) < len(getattr(kept, name))
        for name in ("observations", "actions", "outcomes")
    )
