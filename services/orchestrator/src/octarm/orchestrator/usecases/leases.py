"""Leases: what heartbeats list keeps running; what they do not list runs out."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from octarm.common.bus.topology import HANDED_ON_S
from octarm.common.clock import Clock, set_within
from octarm.common.telemetry.logs import get_logger
from octarm.models.errors import OctarmError
from octarm.models.hot import Heartbeat

EVERY_S: Final = 0.5
FIRST_GRACE_S: Final = 15.0
BEATS: Final = 3
# Results that a dead process had in hand are recorded by then.
SHORTEST_GRACE_S: Final = HANDED_ON_S + 2

log = get_logger()


class Renews(Protocol):
    """Where leases are extended."""

    async def renew(self, running: Sequence[tuple[str, int, str, float]]) -> None:
        """Extend the leases of (task, attempt, its arm) by seconds from now."""
        ...


class KeepLeases:
    """Gathers heartbeats and renews their attempts' leases in batches.

    `connected` tells whether beats can reach us. After our own start or outage every lease may
    have run out unheard, and results that a dead process had in hand are still to come:
    `hears_beats` says so until the arms have had three beats and those results were read.
    """

    def __init__(
        self, ledger: Renews, clock: Clock, connected: Callable[[], bool] = lambda: True
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._connected = connected
        self._deaf_at = clock.monotonic()
        self._grace_s = FIRST_GRACE_S
        self._running: dict[tuple[str, int, str], float] = {}

    async def __call__(self, beat: Heartbeat) -> None:
        """Take in one heartbeat."""
        lease_s = BEATS * beat.interval_s
        self._grace_s = max(lease_s, SHORTEST_GRACE_S)
        for item in beat.running:
            self._running[item.task_id, item.attempt, beat.arm_id] = lease_s

    def hears_beats(self) -> bool:
        """Whether a lease that has run out proves that its arm is silent."""
        now = self._clock.monotonic()
        if not self._connected():
            self._deaf_at = now
        return now - self._deaf_at > self._grace_s

    async def run(self, stop: asyncio.Event) -> None:
        """Renew twice a second until `stop` is set."""
        while not await set_within(stop, EVERY_S):
            await self.renew()

    async def renew(self) -> None:
        """Renew what has been gathered; what fails is left to the next beat."""
        running, self._running = self._running, {}
        rows = sorted((*attempt, lease_s) for attempt, lease_s in running.items())
        try:
            await self._ledger.renew(rows)
        except OctarmError as error:
            log.warning("leases_not_renewed", error=error.message)
