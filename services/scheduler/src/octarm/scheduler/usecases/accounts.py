"""What tenants have used and may use, as scripts see it: asked of the ledger while they decide."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol

from octarm.common.cancelling import end
from octarm.common.telemetry import get_logger
from octarm.models.errors import OctarmError
from octarm.models.usage import MAX_TENANTS, UsageFound
from octarm.policies.context import TenantLimits
from octarm.policies.queue.heard import Account
from octarm.scheduler.usecases.desk import Desk

FRESH_S: Final = 5.0
# Of a tenant that was not known yet.
SOON_S: Final = 1.0

log = get_logger()


class Ledger(Protocol):
    """The part of the orchestrator's client that is needed."""

    async def usage(self, tenants: Sequence[str]) -> UsageFound:
        """Say what they have used today, and may use."""
        ...


@dataclass(slots=True)
class KeepAccounts:
    """Asks anew, beside the cycles, when a script is shown what is older than `FRESH_S`.

    At most 256 tenants, as no window has more. Without an answer what was known stays, and
    what was spent counts until the day is over.
    """

    desk: Desk
    ledger: Ledger
    _day: datetime | None = None
    _asked_at: float = float("-inf")
    _asking: asyncio.Task[None] | None = field(default=None)

    def __call__(self, tenants: Sequence[str]) -> None:
        """See to it that what is known of these tenants is not old, soon."""
        desk, now = self.desk, self.desk.clock.monotonic()
        today = desk.clock.now().replace(hour=0, minute=0, second=0, microsecond=0)
        if self._day is not None and today > self._day:
            desk.recent.accounts = {}
        wait_s = FRESH_S if desk.recent.accounts.keys() >= set(tenants) else SOON_S
        if now - self._asked_at < wait_s or self._asking is not None or not tenants:
            return
        self._asked_at = now
        self._asking = asyncio.create_task(self._ask(tenants[:MAX_TENANTS]))

    async def _ask(self, tenants: Sequence[str]) -> None:
        try:
            found = await self.ledger.usage(tenants)
        except OctarmError as error:
            log.warning("usage_not_known", error=error.message)
            return
        finally:
            self._asking = None
        self._day = found.since
        self.desk.recent.accounts = {
            it.tenant: Account(TenantLimits(it.max_in_flight), it.microdollars, it.tokens)
            for it in found.tenants
        }

    async def aclose(self) -> None:
        """Ask no more."""
        if (asking := self._asking) is not None:
            await end(asking)
