"""Keep the gate informed of what waits in the ledger."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from octarm.common.clock import Clock, set_within
from octarm.common.telemetry import metrics
from octarm.common.telemetry.logs import get_logger
from octarm.ledger.domain.changes import Entry
from octarm.ledger.domain.shedding import Sheds
from octarm.models.errors import OctarmError
from octarm.models.shedding import SheddingFound, SwitchShedding
from octarm.orchestrator.domain.admission import Gate

EVERY_S: Final = 1.0
# A count that takes long is made seldom: it may take a twentieth of one connection's time.
SHARE: Final = 20

log = get_logger()


class Backlog(Protocol):
    """Where what waits is counted."""

    async def count(self) -> tuple[int, int]:
        """Give the tasks that wait or are queued, and the outbox rows."""
        ...


@dataclass(frozen=True, slots=True)
class WatchBacklog:
    """Samples the ledger about once a second."""

    backlog: Backlog
    gate: Gate
    clock: Clock

    async def run(self, stop: asyncio.Event) -> None:
        """Sample until `stop` is set; while the ledger is away the last sample stands."""
        pause_s = 0.0
        while not await set_within(stop, pause_s):
            took_s = 0.0
            try:
                took_s = await self.once()
            except OctarmError as error:
                log.warning("backlog_not_counted", error=error.message)
            pause_s = max(EVERY_S, SHARE * took_s)

    async def once(self) -> float:
        """Sample once; gives the seconds that it took."""
        was_closed, began = self.gate.is_closed, self.clock.monotonic()
        waiting, rows = await self.backlog.count()
        now = self.clock.monotonic()
        self.gate.open.sampled(waiting, now)
        self.gate.outbox.sampled(rows, now)
        metrics.put("octarm_orchestrator_waiting_tasks", waiting)
        metrics.put("octarm_orchestrator_outbox_rows", rows)
        metrics.put("octarm_orchestrator_admission_closed", int(self.gate.is_closed))
        if self.gate.is_closed != was_closed:
            log.info("admission", closed=self.gate.is_closed, waiting=waiting, outbox_rows=rows)
        return now - began


class Switches(Protocol):
    """Where the load-shedding switches stand."""

    async def put(self, wanted: SwitchShedding) -> Entry | None:
        """Put one; gives what is to be told of it."""
        ...

    async def standing(self) -> Sheds:
        """Give what is shed now."""
        ...

    async def found(self) -> SheddingFound:
        """Show what is shed now, and how the switches were put."""
        ...


@dataclass(frozen=True, slots=True)
class FollowSwitches:
    """Puts the switches, and lets the gate know how they stand: once a second, whoever put them."""

    switches: Switches
    gate: Gate
    tell: Callable[[Entry | None], None]

    async def run(self, stop: asyncio.Event) -> None:
        """Look until `stop` is set; while the ledger is away they stand as they stood."""
        while not await set_within(stop, EVERY_S):
            try:
                await self.once()
            except OctarmError as error:
                log.warning("switches_not_read", error=error.message)

    async def once(self) -> None:
        """Look once."""
        self.gate.sheds = await self.switches.standing()
        metrics.put("octarm_orchestrator_shedding", len(self.gate.sheds.switches))

    async def put(self, wanted: SwitchShedding) -> SheddingFound:
        """Put a switch, durable before it is answered; ledger, EVENTS and log say who did."""
        self.tell(await self.switches.put(wanted))
        log.warning("shedding_switched", **wanted.model_dump(mode="json"))
        await self.once()
        return await self.switches.found()
