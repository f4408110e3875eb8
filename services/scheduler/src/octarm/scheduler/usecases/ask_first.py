"""Ask the ledger about tasks that may have been dispatched already.

That can be of what READY held before we led, for an earlier leader may have died between
DISPATCH and the acknowledgement of READY; and of copies: the ledger reminds of tasks that have
been queued for long, and publishes again what nobody acknowledged. A restarted nats-server has
forgotten the Msg-Ids of what was read and removed. It delivers again what was settled late. And
our own request to make the consumer anew may be carried out once more, long after we sent it.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Protocol

import msgspec

from octarm.common.bus.delivery import Outcome, Retry
from octarm.common.telemetry import get_logger
from octarm.models import queries
from octarm.models.errors import OctarmError
from octarm.models.hot import PlaceTasks, ReadyTask
from octarm.models.hot_types import NOT_UNDERSTOOD
from octarm.models.states import TaskState
from octarm.scheduler.usecases.admit import AdmitTasks, ReadyDelivery
from octarm.scheduler.usecases.desk import Desk

UNPLACED: Final = frozenset({TaskState.QUEUED, TaskState.WAITING})
ASK_AGAIN_S: Final = 1.0
# What was made ready so long before it was published may have been published before: nobody
# publishes again before he has waited two seconds for the acknowledgement.
COPY_AFTER: Final = timedelta(seconds=1.5)

log = get_logger()
_decode = msgspec.json.Decoder(PlaceTasks).decode


class Ledger(Protocol):
    """The part of the orchestrator's client that is needed."""

    async def states(self, tenant: str, task_ids: Sequence[str]) -> dict[str, queries.Outcome]:
        """Give the outcome of each task that exists, by id."""
        ...


@dataclass(slots=True)
class AskFirst:
    """Admit READY messages; of those up to `until_seq` only what the ledger has not seen placed.

    Without its answer they wait, and later ones do not: those have been with nobody else.
    `up_to_date` returns once the ledger knows all that was dispatched so far.
    """

    admit: AdmitTasks
    desk: Desk
    ledger: Ledger
    until_seq: int
    up_to_date: Callable[[], Awaitable[None]]
    _read_seq: int = field(default=0, init=False)
    """The last message that was read; an earlier one comes again, whatever its consumer says."""

    async def __call__(self, deliveries: Sequence[ReadyDelivery]) -> list[Outcome]:
        """Handle a batch of messages; gives one outcome each."""
        read = {
            it.stream_seq: _read(it) for it in deliveries if it.stream_seq not in self.desk.holds
        }
        copies = {it.stream_seq for it in deliveries if self._is_copy(it, read)}
        self._read_seq = max(self._read_seq, *read, 0)
        asked = {seq for seq in read if seq <= self.until_seq} | copies
        # At once: what is held or waits now may have been placed when the ledger has answered.
        fresh = [it for it in deliveries if it.stream_seq not in asked]
        outcomes = dict(zip(fresh, await self.admit(fresh, read), strict=True))
        if asked:
            again = await self._ask({seq: read[seq] for seq in sorted(asked)})
            rest = [it for it in deliveries if it.stream_seq in asked - again]
            outcomes.update(zip(rest, await self.admit(rest, read), strict=True))
        return [outcomes.get(it, Retry(ASK_AGAIN_S)) for it in deliveries]

    async def _ask(self, asked: Mapping[int, list[ReadyTask]]) -> set[int]:
        """Call off what was placed before; gives the messages to be asked about once more."""
        here = {seq: [it for it in tasks if self._is_here(it)] for seq, tasks in asked.items()}
        try:
            # Of a task that comes in two messages this leader may have dispatched the other.
            await self.up_to_date()
            await self._call_off([ready for tasks in asked.values() for ready in tasks])
        except OctarmError as error:
            log.warning("ledger_not_asked", error=error.message)
            return set(asked)
        # What has left us meanwhile was perhaps dispatched after the ledger had looked.
        return {seq for seq, tasks in here.items() if any(self._has_left(it) for it in tasks)}

    def _is_here(self, ready: ReadyTask) -> bool:
        desk, waiting = self.desk, self.desk.queue.get(ready.task_id)
        if waiting is not None and waiting.attempt == ready.attempt:
            return True
        return desk.fleet.flight(ready.task_id, ready.attempt) is not None

    def _has_left(self, ready: ReadyTask) -> bool:
        return not (self._is_here(ready) or self.desk.queue.ended(ready.task_id, ready.attempt))

    def _is_copy(self, delivery: ReadyDelivery, read: Mapping[int, list[ReadyTask]]) -> bool:
        """Whether it may tell of what this leader has dispatched and forgotten since.

        So may a message that is delivered again: the acknowledgement was late, or got lost.
        """
        seq = delivery.stream_seq
        if seq <= self.until_seq or not (tasks := read.get(seq)):
            return False
        is_first = delivery.deliveries == 1 and seq > self._read_seq
        if is_first and tasks[0].queued_at > delivery.published_at - COPY_AFTER:
            return False
        return any(self.desk.queue.get(ready.task_id) is None for ready in tasks)

    async def _call_off(self, tasks: Sequence[ReadyTask]) -> None:
        by_tenant: dict[str, list[ReadyTask]] = {}
        for ready in tasks:
            by_tenant.setdefault(ready.tenant, []).append(ready)
        past = 0
        for tenant, own in by_tenant.items():
            known = await self.ledger.states(tenant, [ready.task_id for ready in own])
            for ready in own:
                outcome = known.get(ready.task_id)
                if outcome is not None and _is_past(ready, outcome):
                    waiting = self.desk.queue.call_off(ready.task_id, ready.attempt)
                    if waiting is not None:
                        self.desk.done(waiting)
                    past += 1
        if past:
            log.info("attempts_placed_before", number=past)


def _read(delivery: ReadyDelivery) -> list[ReadyTask]:
    try:
        return _decode(delivery.data).tasks
    except NOT_UNDERSTOOD:
        return []  # Admission says why it is dead.


def _is_past(ready: ReadyTask, outcome: queries.Outcome) -> bool:
    if outcome.attempt != ready.attempt:
        return outcome.attempt > ready.attempt
    return outcome.state not in UNPLACED
