"""End queued tasks that the scheduler does not want to place; their submitters are told why."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from octarm.common.telemetry import metrics
from octarm.ledger.domain.changes import Announce, Entry, Moved, Unwanted
from octarm.ledger.domain.tasks import without_nul
from octarm.ledger.hops import REJECT, traced
from octarm.models.errors import Backpressure, OctarmError, TaskFailed
from octarm.models.rejections import Rejection
from octarm.orchestrator.usecases.announce import Announcement
from octarm.orchestrator.usecases.relay import Relay

NOT_WANTED: Final = "The policy of this deployment does not take it: see `octarm tasks explain`."
FULL: Final = "Submit it again when less is waiting."


class Rejecting(Protocol):
    """Where queued tasks are rejected."""

    async def reject(
        self, unwanted: Sequence[Unwanted], announce: Announce
    ) -> tuple[list[Moved], Entry | None]:
        """End those that are still queued at their attempt."""
        ...


@dataclass(frozen=True, slots=True)
class RejectTasks:
    """Ends tasks as rejected, but for those that were placed, called off or ended meanwhile."""

    ledger: Rejecting
    relay: Relay

    async def __call__(self, rejections: Sequence[Rejection]) -> list[str]:
        """Reject; gives the tasks that this has ended. Again does nothing.

        Raises:
            Unavailable: the ledger is away; it may have been done all the same.
        """
        # Of two reasons for one task the first counts.
        unwanted = {item.task_id: _unwanted(item) for item in reversed(rejections)}
        announce = traced(Announcement(), REJECT)
        moved, entry = await self.ledger.reject(list(unwanted.values()), announce)
        self.relay.hand_in(entry)
        if moved:
            metrics.inc("octarm_orchestrator_tasks_ended_total", len(moved), state="rejected")
        return [change.task_id for change in moved]


def _unwanted(item: Rejection) -> Unwanted:
    reason = without_nul(item.reason) or "the scheduler does not place it"
    error: OctarmError = TaskFailed(reason, NOT_WANTED, item.code)
    if item.code == "QUEUE_FULL":
        error = Backpressure(reason, FULL, item.code)
    return Unwanted(item.task_id, item.attempt, error.problem().model_dump_json())
