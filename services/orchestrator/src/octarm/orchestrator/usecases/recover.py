"""One pass of the reconciler when somebody asks, also for a bus that has lost its streams."""

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from msgspec import structs

from octarm.common.bus.publisher import Outgoing, Publishes
from octarm.common.telemetry.logs import get_logger
from octarm.ledger.domain.changes import Woken
from octarm.models.errors import OctarmError
from octarm.models.queries import Reconciled
from octarm.orchestrator.usecases.endings import Reconcile

TOLD_AGAIN: Final = "queued tasks told again"
# An arm waits five seconds for an acknowledgement of its reports, and a second before the next.
REPORTED_WITHIN_S: Final = 6.0

log = get_logger()


class Queued(Protocol):
    """Where queued tasks are read."""

    async def after(self, task_id: str) -> list[Woken]:
        """Give the next queued tasks after an id, in the order of their ids; empty at the end."""
        ...


def _mark() -> str:
    return secrets.token_hex(4)


@dataclass(frozen=True, slots=True)
class Recover:
    """Runs a whole pass at once and says what it mended.

    Told to assume an empty bus, it then publishes READY for every queued task again. That changes
    nothing where the message was not lost: a copy takes the place of the older one in the
    scheduler's queue, and an attempt that is under way or over is not placed again. Dispatched and
    running attempts are left to their leases: whether one was started before its command was lost
    only its arm knows, and it says so with its beats. Of a placement that was lost before the
    ledger had read it the arm's report tells, so that is waited for.
    """

    reconcile: Reconcile
    queued: Queued
    publisher: Publishes
    make_ready: Callable[[list[Woken]], list[Outgoing]]
    mark: Callable[[], str] = field(default=_mark)
    """Makes one pass's messages differ from what READY may still know for duplicates."""
    patience_s: float = REPORTED_WITHIN_S

    async def __call__(self, *, assume_empty: bool) -> Reconciled:
        """Mend; may be repeated at any time.

        Raises:
            Unavailable: Postgres or NATS is away; what was told until then is told.
        """
        mended: Counter[str] = Counter()
        # A copy that counts for itself: the one that runs always goes on meanwhile.
        await replace(self.reconcile, mended=mended).once()
        if assume_empty:
            await asyncio.sleep(self.patience_s)
            mended[TOLD_AGAIN] = await self._tell_again()
            log.warning("bus_assumed_empty", told_again=mended[TOLD_AGAIN])
        return Reconciled(mended={what: number for what, number in mended.items() if number})

    async def _tell_again(self) -> int:
        told, last, mark = 0, "", self.mark()
        while page := await self.queued.after(last):
            messages = [
                structs.replace(m, msg_id=f"{m.msg_id}:{mark}") for m in self.make_ready(page)
            ]
            for answer in await self.publisher.publish_many(messages):
                if isinstance(answer, OctarmError):
                    raise answer
            told, last = told + len(page), page[-1].moved.task_id
        return told
