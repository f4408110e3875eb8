"""What the ledger knows that a script is to see: accounts, and what work took before."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from octarm.models.errors import OctarmError
from octarm.models.policies import DecisionRecord, FindDecisions
from octarm.policies.accounts import Accounts
from octarm.policies.queue.estimates import Estimates, kind_of
from octarm.policies.queue.heard import Account

# A page from each time before now, the oldest first, so that the newest weighs most: on a busy
# fleet a page is a sample, and the last one is of the last seconds.
SAMPLES: Final = (timedelta(hours=1), timedelta(minutes=5), timedelta(seconds=20))
AGAIN_AFTER: Final = timedelta(seconds=5)

Ask = Callable[[FindDecisions], Awaitable[tuple[list[bytes], str | None]]]


class Remembering:
    """Gives the accounts of tenants, and teaches estimates what attempts of late took and cost.

    A script that is to see the ones is to see the others. What was is asked for once, beside
    everything else, and again after a while if the ledger did not answer.
    """

    def __init__(
        self, accounts: Accounts, ask: Ask, estimates: Estimates, now: Callable[[], datetime]
    ) -> None:
        self.asking: asyncio.Task[None] | None = None
        self._accounts = accounts
        self._ask = ask
        self._estimates = estimates
        self._now = now
        self._due_at: datetime | None = now()

    def __call__(self, tenants: Sequence[str]) -> Mapping[str, Account]:
        """Say what is known of these tenants, perhaps of others, too."""
        if self._due_at is not None and self._now() >= self._due_at:
            self._due_at = None
            self.asking = asyncio.create_task(self._learn())
        return self._accounts(tenants)

    def under_way(self) -> list[asyncio.Task[None]]:
        """Give what is being asked for, for the caller to end."""
        both = self.asking, self._accounts.asking
        return [it for it in both if it is not None and not it.done()]

    async def _learn(self) -> None:
        until, learned = self._now(), set[tuple[str, int]]()
        try:
            for ago in SAMPLES:
                lines, _ = await self._ask(FindDecisions(since=until - ago, until=until))
                for line in lines:
                    it = DecisionRecord.model_validate_json(line)
                    if (it.task_id, it.attempt) not in learned:
                        learned.add((it.task_id, it.attempt))
                        self._take(it)
        except OctarmError:
            # What was learned already counts twice next time, which moves no mean.
            self._due_at = self._now() + AGAIN_AFTER

    def _take(self, it: DecisionRecord) -> None:
        """Learn one that has ended; it took as long as it was with the arm."""
        if it.took_s is None or it.arm_id is None:
            return
        succeeded = it.status == "success"
        took_ms, kind = it.took_s * 1000, kind_of(it.needs)
        self._estimates.learn(it.arm_id, kind, took_ms, it.cost, succeeded=succeeded)
