"""What tenants have used and may use, as scripts see it: asked of the ledger while they decide."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Final

from octarm.models.errors import OctarmError
from octarm.models.usage import MAX_TENANTS, UsageFound
from octarm.policies.context import TenantLimits
from octarm.policies.queue.heard import Account

FRESH_S: Final = 5.0
# Of a tenant that was not known yet.
SOON_S: Final = 1.0

Ask = Callable[[Sequence[str]], Awaitable[UsageFound]]


class Accounts:
    """Gives what is known at once; asks anew beside the cycles when that is older than `FRESH_S`.

    Of at most 256 tenants, as no window has more. Without an answer what was known stays, and
    what was spent counts until the day is over. `asking` is under way, for the caller to end.
    """

    def __init__(
        self, ask: Ask, *, now: Callable[[], datetime], monotonic: Callable[[], float]
    ) -> None:
        self.asking: asyncio.Task[None] | None = None
        self._ask = ask
        self._now = now
        self._monotonic = monotonic
        self._known: dict[str, Account] = {}
        self._day: datetime | None = None
        self._asked_at = float("-inf")

    def __call__(self, tenants: Sequence[str]) -> Mapping[str, Account]:
        """Say what is known of these tenants, perhaps of others, too."""
        now = self._monotonic()
        today = self._now().replace(hour=0, minute=0, second=0, microsecond=0)
        if self._day is not None and today > self._day:
            self._known = {}
        wait_s = FRESH_S if self._known.keys() >= set(tenants) else SOON_S
        # One that was cancelled before it began has not run at all.
        free = self.asking is None or self.asking.done()
        if tenants and free and now - self._asked_at >= wait_s:
            self._asked_at = now
            self.asking = asyncio.create_task(self._learn(tenants[:MAX_TENANTS]))
        return self._known

    async def _learn(self, tenants: Sequence[str]) -> None:
        try:
            found = await self._ask(tenants)
        except OctarmError:
            return
        finally:
            self.asking = None
        self._day = found.since
        self._known = {
            it.tenant: Account(TenantLimits(it.max_in_flight), it.microdollars, it.tokens)
            for it in found.tenants
        }
