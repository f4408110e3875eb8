"""Ask the ledger about tasks that READY held before we led: some may have run already.

A leader that dies between DISPATCH and the acknowledgement of READY leaves messages whose
attempts are under way or over. DISPATCH knows their Msg-Ids as long as nats-server lives, but a
restarted one forgets those of commands that were acknowledged; the ledger does not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from octarm.common.bus.delivery import Outcome
from octarm.common.telemetry import get_logger
from octarm.models import queries
from octarm.models.errors import OctarmError
from octarm.models.hot import PlaceTasks, ReadyTask
from octarm.models.states import TaskState
from octarm.scheduler.usecases.admit import AdmitTasks, ReadyDelivery
from octarm.scheduler.usecases.desk import Desk

UNPLACED = frozenset({TaskState.QUEUED, TaskState.WAITING})

log = get_logger()
_decode = msgspec.json.Decoder(PlaceTasks).decode


class Ledger(Protocol):
    """The part of the orchestrator's client that is needed."""

    async def states(self, tenant: str, task_ids: Sequence[str]) -> dict[str, queries.Outcome]:
        """Give the outcome of each task that exists, by id."""
        ...


@dataclass(frozen=True, slots=True)
class AskFirst:
    """Admit READY messages; of those up to `until_seq` only what the ledger has not seen placed.

    A ledger that does not answer holds nothing up: what is placed twice ends once all the same.
    """

    admit: AdmitTasks
    desk: Desk
    ledger: Ledger
    until_seq: int

    async def __call__(self, deliveries: Sequence[ReadyDelivery]) -> list[Outcome]:
        """Handle a batch of messages; gives one outcome each."""
        old = [one for one in deliveries if one.stream_seq <= self.until_seq]
        if old:
            try:
                await self._call_off(old)
            except OctarmError as error:
                log.warning("ledger_not_asked", error=error.message)
        return await self.admit(deliveries)

    async def _call_off(self, deliveries: Sequence[ReadyDelivery]) -> None:
        tasks: dict[str, list[ReadyTask]] = {}
        for delivery in deliveries:
            for ready in _read(delivery):
                tasks.setdefault(ready.tenant, []).append(ready)
        past = 0
        for tenant, own in tasks.items():
            known = await self.ledger.states(tenant, [ready.task_id for ready in own])
            for ready in own:
                outcome = known.get(ready.task_id)
                if outcome is not None and _is_past(ready, outcome):
                    self.desk.queue.call_off(ready.task_id, ready.attempt)
                    past += 1
        if past:
            log.info("attempts_placed_before", number=past)


def _read(delivery: ReadyDelivery) -> list[ReadyTask]:
    try:
        return _decode(delivery.data).tasks
    except (msgspec.DecodeError, msgspec.ValidationError):
        return []  # Admission says why it is dead.


def _is_past(ready: ReadyTask, outcome: queries.Outcome) -> bool:
    if outcome.attempt != ready.attempt:
        return outcome.attempt > ready.attempt
    return outcome.state not in UNPLACED
