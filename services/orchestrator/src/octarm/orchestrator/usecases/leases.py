"""Leases: what heartbeats list keeps running, unless the ledger has gone on; the rest runs out."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from octarm.common.bus.topology import HANDED_ON_S
from octarm.common.clock import Clock, set_within
from octarm.common.telemetry.logs import get_logger
from octarm.models.errors import OctarmError
from octarm.models.hot import Heartbeat
from octarm.orchestrator.usecases.record import Revocation, Revoke

EVERY_S: Final = 0.5
# Three beats of most arms: what is listed on both sides of such a moment has run for a while.
LOOK_BACK_S: Final = 15.0
FIRST_GRACE_S: Final = 15.0
BEATS: Final = 3
# Results that a dead process had in hand are recorded by then.
SHORTEST_GRACE_S: Final = HANDED_ON_S + 2

log = get_logger()


Running = tuple[str, int, str]
"""Task, attempt, and the arm that says it runs it."""


class Renews(Protocol):
    """Where leases are extended."""

    async def renew(self, running: Sequence[tuple[str, int, str, float]]) -> None:
        """Extend the leases of (task, attempt, its arm) by seconds from now."""
        ...

    async def superseded(self, running: Sequence[Running]) -> list[Running]:
        """Give those whose task has ended, or is at a later attempt."""
        ...


class KeepLeases:
    """Gathers heartbeats and renews their attempts' leases in batches.

    An attempt that the ledger has given up is revoked with a message of core NATS, which an arm
    that is cut off just then never gets: it would go on for as long as its handler likes, with
    slots that nobody else can use. So what beats list for long is looked up, and revoked again.

    `connected` tells whether beats can reach us. After our own start or outage every lease may
    have run out unheard, and results that a dead process had in hand are still to come:
    `hears_beats` says so until the arms have had three beats and those results were read.
    """

    def __init__(
        self,
        ledger: Renews,
        clock: Clock,
        revoke: Revoke,
        connected: Callable[[], bool] = lambda: True,
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._revoke = revoke
        self._connected = connected
        self._deaf_at = clock.monotonic()
        self._grace_s = FIRST_GRACE_S
        self._running: dict[Running, float] = {}
        self._heard: set[Running] = set()
        self._heard_before: set[Running] = set()
        self._look_at = clock.monotonic() + LOOK_BACK_S

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
        """Renew twice a second until `stop` is set, and look back now and then."""
        while not await set_within(stop, EVERY_S):
            await self.renew()
            if self._clock.monotonic() >= self._look_at:
                await self.look_back()

    async def renew(self) -> None:
        """Renew what has been gathered; what fails is left to the next beat."""
        running, self._running = self._running, {}
        self._heard.update(running)
        rows = sorted((*attempt, lease_s) for attempt, lease_s in running.items())
        try:
            await self._ledger.renew(rows)
        except OctarmError as error:
            log.warning("leases_not_renewed", error=error.message)

    async def look_back(self) -> None:
        """Revoke again what has been listed before and since, though the ledger has gone on."""
        self._look_at = self._clock.monotonic() + LOOK_BACK_S
        before, self._heard_before, self._heard = self._heard_before, self._heard, set()
        if not (long := sorted(before & self._heard_before)):
            return
        try:
            superseded = await self._ledger.superseded(long)
        except OctarmError as error:
            log.warning("superseded_not_asked", error=error.message)
            return
        if superseded:
            log.info("revoked_again", number=len(superseded))
            why = "the ledger has gone on without it"
            await self._revoke([Revocation(*attempt, None, why) for attempt in superseded])
