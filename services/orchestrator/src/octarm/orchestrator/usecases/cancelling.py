"""Call tasks off, and see to it that their work stops: told again and again until it is proven."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from octarm.common.clock import Clock, set_within
from octarm.common.failpoints import failpoint
from octarm.common.telemetry.logs import get_logger
from octarm.ledger.domain.changes import Announce, Entry, Moved, Stopped, Stopping
from octarm.ledger.domain.tasks import without_nul
from octarm.ledger.hops import CANCEL, traced
from octarm.models import hot
from octarm.models.errors import OctarmError, TaskFailed
from octarm.orchestrator.usecases.announce import Announcement
from octarm.orchestrator.usecases.record import Revocation
from octarm.orchestrator.usecases.relay import Relay

EVERY_S: Final = 0.5
# An arm cuts its handler off after five seconds; it may have heard of it late.
FORCE_AFTER_S: Final = 10.0
# The result that tells what became of the attempt may be on its way while a beat overtakes it.
UNLISTED_FOR_S: Final = 1.0

Key = tuple[str, int]
log = get_logger()


class Cancelling(Protocol):
    """Where tasks are called off and ended."""

    async def cancel(
        self, task_id: str, tenant: str, *, error: str, inherited: str, announce: Announce
    ) -> tuple[int, Entry | None]:
        """Call off a task and every open one below it; gives their number."""
        ...

    async def stopping(
        self, force_s: float, task_ids: Sequence[str] | None = None
    ) -> list[Stopping]:
        """List attempts that were called off and have not ended."""
        ...

    async def stop(
        self, proofs: Sequence[Stopped], announce: Announce
    ) -> tuple[list[Moved], Entry | None]:
        """End the tasks of attempts that have stopped."""
        ...


Withdraw = Callable[[Sequence[Revocation]], Awaitable[set[Key]]]
"""Take attempts back, or tell their arms; gives those that no arm can ever have read."""


class StopAttempts:
    """Tells arms to stop what was called off, and ends it once there is proof.

    In this order: the run command was taken back unread; the instance that had the attempt
    beats without it; its lease ran out; or nothing of that happened for `force_after_s`
    seconds. (The best proof, the attempt's own result, comes with the other results.)
    `hears_beats` tells whether a lease that ran out means that its arm is silent.
    """

    def __init__(
        self,
        ledger: Cancelling,
        relay: Relay,
        withdraw: Withdraw,
        hears_beats: Callable[[], bool],
        *,
        clock: Clock,
        force_after_s: float = FORCE_AFTER_S,
    ) -> None:
        self._ledger = ledger
        self._relay = relay
        self._withdraw = withdraw
        self._clock = clock
        self._hears_beats = hears_beats
        self._force_after_s = force_after_s
        self._watched: dict[str, set[Key]] = {}
        self._unlisted: dict[Key, float] = {}

    async def heard(self, beat: hot.Heartbeat) -> None:
        """Take in a heartbeat: what its instance does not list any more has ended there."""
        watched = self._watched.get(beat.instance_id)
        if watched:
            listed = {(item.task_id, item.attempt) for item in beat.running}
            for key in sorted(watched - listed):
                self._unlisted.setdefault(key, self._clock.monotonic())
            for key in watched & listed:
                self._unlisted.pop(key, None)

    async def run(self, stop: asyncio.Event) -> None:
        """Look twice a second until `stop` is set."""
        while not stop.is_set():
            try:
                await self()
            except OctarmError as error:
                log.warning("attempts_not_stopped", error=error.message)
            await set_within(stop, EVERY_S)

    async def __call__(self, task_ids: Sequence[str] | None = None) -> None:
        """Do it once, for all of them or for these tasks."""
        stopping = await self._ledger.stopping(self._force_after_s, task_ids)
        if task_ids is None:
            self._watch(stopping)
        if not stopping:
            return
        proofs = {item.task_id: proof for item in stopping if (proof := self._proof(item))}
        open_ones = [item for item in stopping if item.task_id not in proofs]
        # The arms of those that end without their word are told as well.
        unread = await self._withdraw([_revocation(item) for item in stopping])
        proofs |= {
            item.task_id: Stopped(item.task_id, item.attempt, "never_started")
            for item in open_ones
            if (item.task_id, item.attempt) in unread and not item.started
        }
        if proofs:
            await self._end(list(proofs.values()))

    def _watch(self, stopping: list[Stopping]) -> None:
        self._watched = {}
        for item in stopping:
            if item.instance_id is not None:
                key = (item.task_id, item.attempt)
                self._watched.setdefault(item.instance_id, set()).add(key)
        keys = {(item.task_id, item.attempt) for item in stopping}
        self._unlisted = {key: at for key, at in self._unlisted.items() if key in keys}

    def _proof(self, item: Stopping) -> Stopped | None:
        unlisted_at = self._unlisted.get((item.task_id, item.attempt))
        if unlisted_at is not None and self._clock.monotonic() - unlisted_at >= UNLISTED_FOR_S:
            return Stopped(item.task_id, item.attempt, "stopped_by_arm")
        if item.leaseless and self._hears_beats():
            return Stopped(item.task_id, item.attempt, "lease_ended")
        return Stopped(item.task_id, item.attempt, "forced") if item.overdue else None

    async def _end(self, proofs: list[Stopped]) -> None:
        moved, entry = await self._ledger.stop(proofs, traced(Announcement(), CANCEL))
        self._relay.hand_in(entry)
        forced = [change.task_id for change in moved if change.proof == "forced"]
        if forced:
            log.warning("ended_without_proof", tasks=forced[:10], number=len(forced))


@dataclass(frozen=True, slots=True)
class CancelTasks:
    """Calls off a task and all below it; what no arm has ends at once."""

    ledger: Cancelling
    relay: Relay
    stop: StopAttempts

    async def __call__(self, task_id: str, tenant: str, reason: str) -> bool:
        """Cancel; false when there was nothing that had not been called off before."""
        reason = without_nul(reason) or "cancelled by its owner"
        called_off, entry = await self.ledger.cancel(
            task_id,
            tenant,
            error=_problem(reason),
            inherited=_problem(f"a task above it was cancelled: {reason}"),
            announce=traced(Announcement(), CANCEL),
        )
        failpoint("cancel_after_commit")
        self.relay.hand_in(entry)
        if called_off:
            await self.stop()
        return bool(called_off)


def _problem(reason: str) -> str:
    return TaskFailed(reason, code="CANCELLED").problem().model_dump_json()


def _revocation(item: Stopping) -> Revocation:
    return Revocation(item.task_id, item.attempt, item.arm_id, item.dispatch_seq, item.reason)
