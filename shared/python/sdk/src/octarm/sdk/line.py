"""A connection and what the arms that serve over it have in common."""

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

from nats.aio.client import Client as NATS

from octarm.clients.arm_registry import ArmRegistryClient
from octarm.common.bus.connection import connected_to
from octarm.common.bus.publisher import Publisher
from octarm.common.cancelling import end
from octarm.models.arms import ArmCapability, ArmRecord
from octarm.models.errors import NotFound
from octarm.sdk.outbox import Outbox

AT_ONCE: Final = 16
BEATS_PER_CHECK: Final = 6
# Of a fleet most arms wait: each would be told every second that there is nothing to do.
IDLE_HEARTBEAT_S: Final = 2.0
LONGEST_IDLE_HEARTBEAT_S: Final = 5.0
ARMS_A_CHECK: Final = 25
ARMS_AN_IDLE_SECOND: Final = 100


class Desk:
    """The registry, of which the arms of one connection ask a few things at a time.

    `forgotten` counts the arms that it did not know: what has lost one may have lost others.
    """

    def __init__(self, registry: ArmRegistryClient) -> None:
        self._registry = registry
        self._turn = asyncio.Semaphore(AT_ONCE)
        self.forgotten = 0

    async def register(self, arm: ArmCapability, key: str = "") -> ArmRecord:
        """Make an arm known, or update it; idempotent."""
        async with self._turn:
            return await self._registry.register(arm, key)

    async def get(self, arm_id: str) -> ArmRecord:
        """Show one arm; raises NotFound when nobody registered it."""
        async with self._turn:
            try:
                return await self._registry.get(arm_id)
            except NotFound:
                self.forgotten += 1
                raise


class Line:
    """One connection, which it does not close, for so many arms.

    `lost` is set when the connection will not come back.
    """

    def __init__(self, nc: NATS, *, arms: int, lost: asyncio.Event) -> None:
        self.nc = nc
        self.lost = lost
        self.arms = arms
        self.publisher = Publisher(nc)
        self.outbox = Outbox(self.publisher)
        self.desk = Desk(ArmRegistryClient(nc))
        self.sending = asyncio.create_task(self.outbox.run())

    @property
    def beats_per_check(self) -> int:
        """After how many beats an arm asks whether the registry knows it; all of a fleet seldom."""
        return max(BEATS_PER_CHECK, self.arms // ARMS_A_CHECK)

    @property
    def beats_before(self) -> int:
        """How many of these an arm leaves out at first, so that not all ask at once."""
        return random.randrange(self.beats_per_check) if self.arms > 1 else 0  # noqa: S311

    @property
    def idle_heartbeat_s(self) -> float:
        """How often the server shows an arm that waits that it lives."""
        spread_s = self.arms / ARMS_AN_IDLE_SECOND
        return min(LONGEST_IDLE_HEARTBEAT_S, max(IDLE_HEARTBEAT_S, spread_s))


@asynccontextmanager
async def a_line(
    url: str, *, name: str, arms: int = 1, expect_cluster: str | None = None
) -> AsyncGenerator[Line, None]:
    """Connect for so many arms; at the end of the block they have ended.

    Raises:
        Unavailable: NATS does not answer.
    """
    lost = asyncio.Event()
    async with connected_to(
        url, name=name, expect_cluster=expect_cluster, on_closed=lost.set
    ) as nc:
        line = Line(nc, arms=arms, lost=lost)
        try:
            yield line
        finally:
            await end(line.sending)
            await line.publisher.close()
