"""Release what a quota holds, as soon as there is room for it."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from octarm.common.bus.publisher import Outgoing
from octarm.common.clock import Clock, set_within
from octarm.common.telemetry.logs import get_logger
from octarm.ledger.domain.changes import Entry, Moved, Woken
from octarm.ledger.domain.tenants import Tenants
from octarm.models.errors import OctarmError
from octarm.models.states import TaskState
from octarm.orchestrator.usecases.relay import Relay

EVERY_S: Final = 0.5

MakeReady = Callable[[list[Woken]], list[Outgoing]]
log = get_logger()


class Quotas(Protocol):
    """Where held tasks are found and queued."""

    async def adopt(self) -> None:
        """Let the open tasks of limited tenants count, and those of no others."""
        ...

    async def hold_due(self) -> None:
        """Let what may run now wait for room."""
        ...

    async def with_held(self) -> list[str]:
        """List the tenants that have tasks waiting for room."""
        ...

    async def release(self, tenant: str, announce: MakeReady) -> tuple[list[Woken], Entry | None]:
        """Queue what a tenant's quota has room for."""
        ...


class ReleaseHeld:
    """Queues held tasks: when one of their tenant ends here, and at the latest twice a second.

    Any number of orchestrators may do it at the same time; a tenant without a quota is never
    looked at.
    """

    def __init__(
        self,
        quotas: Quotas,
        tenants: Tenants,
        relay: Relay,
        announce: MakeReady,
        *,
        clock: Clock,
    ) -> None:
        self._quotas = quotas
        self._tenants = tenants
        self._relay = relay
        self._announce = announce
        self._clock = clock
        self._nudged: dict[str, None] = {}
        self._woken = asyncio.Event()
        self._adopted: frozenset[str] | None = None

    def nudge(self, tenants: Iterable[str]) -> None:
        """Look at these tenants soon: they have new tasks, or new room."""
        fresh = self._tenants.limited.intersection(tenants)
        if fresh:
            self._nudged |= dict.fromkeys(sorted(fresh))
            self._woken.set()

    def moved(self, changes: Sequence[Moved]) -> None:
        """Look at the tenants whose tasks have left the flight."""
        if self._tenants.limited:
            self.nudge(m.tenant for m in changes if _has_landed(m.new))

    async def run(self, stop: asyncio.Event) -> None:
        """Release until `stop` is set."""
        stopped = asyncio.create_task(stop.wait())
        stopped.add_done_callback(lambda _: self._woken.set())
        sweep_at = 0.0
        while not stop.is_set():
            try:
                if self._clock.monotonic() >= sweep_at:
                    await self.once()
                    sweep_at = self._clock.monotonic() + EVERY_S
                await self._release_nudged()
            except OctarmError as error:
                log.warning("quota_release_failed", error=error.message)
                await set_within(stop, EVERY_S)
            await set_within(self._woken, max(0.0, sweep_at - self._clock.monotonic()))
            self._woken.clear()
        stopped.cancel()

    async def once(self) -> None:
        """Find and release everything that there is room for."""
        limited = self._tenants.limited
        if self._adopted != limited:
            await self._quotas.adopt()
            self._adopted = limited
        if limited:
            await self._quotas.hold_due()
            self._nudged |= dict.fromkeys(await self._quotas.with_held())
        await self._release_nudged()

    async def _release_nudged(self) -> None:
        while self._nudged:
            del self._nudged[tenant := next(iter(self._nudged))]
            woken, entry = await self._quotas.release(tenant, self._announce)
            self._relay.hand_in(entry)
            if woken:
                # There may be more than one turn takes.
                self._nudged[tenant] = None


def _has_landed(state: TaskState) -> bool:
    return state.is_terminal or state is TaskState.WAITING
