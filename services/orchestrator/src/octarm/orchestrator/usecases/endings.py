"""The reconciler: finds every ownerless state, and ends or moves on what it finds."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from octarm.common.bus.publisher import Outgoing
from octarm.common.clock import set_within
from octarm.common.failpoints import failpoint
from octarm.common.telemetry import metrics
from octarm.common.telemetry.logs import get_logger
from octarm.ledger.domain.changes import Announce, Entry, Moved, Woken
from octarm.ledger.hops import RECONCILE, traced
from octarm.models.errors import OctarmError, Problem, TimedOut, Unavailable
from octarm.orchestrator.usecases.announce import Announcement
from octarm.orchestrator.usecases.record import Revocation, Revoke
from octarm.orchestrator.usecases.relay import Relay
from octarm.orchestrator.usecases.tell import TellOwn

EVERY_S: Final = 0.5
SLOW_EVERY: Final = 8

Change = tuple[list[Moved], Entry | None]
log = get_logger()


class Endings(Protocol):
    """The ledger's transitions that no arm reports."""

    async def time_out(self, *, reason: str, error: str, announce: Announce) -> Change:
        """End tasks whose deadline has passed."""
        ...

    async def lose_silent(self, *, reason: str, error: str, announce: Announce) -> Change:
        """Give up attempts whose lease has run out."""
        ...

    async def lose_hanging(self, *, reason: str, error: str, announce: Announce) -> Change:
        """Give up attempts that run too long."""
        ...

    async def wake(
        self, announce: Callable[[list[Woken]], list[Outgoing]]
    ) -> tuple[list[Woken], Entry | None]:
        """Queue waiting tasks whose time has come."""
        ...

    async def sweep_blocked(self) -> Entry | None:
        """End or queue tasks that wait for others and were missed."""
        ...

    async def remind(
        self, announce: Callable[[list[Woken]], list[Outgoing]]
    ) -> tuple[list[Woken], Entry | None]:
        """Tell again of tasks that have been queued for long."""
        ...


async def _nothing() -> None:
    return None


async def _always() -> bool:
    return True


def revocations(moved: Sequence[Moved], reason: str) -> list[Revocation]:
    """List the attempts that these transitions took from an arm."""
    return [
        Revocation(m.task_id, m.attempt, m.arm_id, m.dispatch_seq, reason)
        for m in moved
        if m.arm_id is not None
    ]


@dataclass(frozen=True, slots=True)
class Reconcile:
    """Runs always: no state may stay without an owner or past its deadline."""

    endings: Endings
    relay: Relay
    revoke: Revoke
    shards: int
    hears_beats: Callable[[], bool] = field(default=lambda: True)
    """Whether heartbeats have been heard for long enough to judge who is silent."""
    ready_is_read: Callable[[], Awaitable[bool]] = _always
    """Whether the schedulers have read READY, so that what it lacks is lacking for good."""
    settle_budgets: Callable[[], Awaitable[None]] = _nothing
    """Settles the budgets of tasks that ended on a way that did not."""
    mended: Counter[str] = field(default_factory=Counter)
    """What has been mended, in numbers of tasks; sweeping counts commits."""

    async def run(self, stop: asyncio.Event) -> None:
        """Look twice a second, at what is rare every four seconds, until `stop` is set."""
        turn = 0
        while not stop.is_set():
            try:
                await self.once(all_of_it=turn % SLOW_EVERY == 0)
            except OctarmError as error:
                log.warning("reconcile_failed", error=error.message)
            turn += 1
            await set_within(stop, EVERY_S)

    async def once(self, *, all_of_it: bool = True) -> None:
        """Find and mend once."""
        lost = Unavailable(
            "the arm fell silent while it had the attempt", code="ARM_UNAVAILABLE"
        ).problem()
        overdue = TimedOut("the deadline has passed").problem()
        if self.hears_beats():
            await self._apply("its lease ran out", lost, self.endings.lose_silent)
        await self._apply("its deadline passed", overdue, self.endings.time_out)
        if all_of_it:
            hung = TimedOut("the attempt ran too long", code="EXECUTION_TIMEOUT").problem()
            await self._apply("it ran too long", hung, self.endings.lose_hanging)
            await self._remind()
            await self.settle_budgets()
            self.relay.hand_in(await self.endings.sweep_blocked())
            self.mended["commits told at last"] += await self.relay.sweep()
        woken, entry = await self.endings.wake(self._tells.woken)
        self.mended["waiting tasks made ready"] += len(woken)
        self.relay.hand_in(entry)

    @property
    def _tells(self) -> TellOwn:
        return TellOwn(self.shards)

    async def _apply(
        self, reason: str, problem: Problem, change: Callable[..., Awaitable[Change]]
    ) -> None:
        moved, entry = await change(
            reason=reason,
            error=problem.model_dump_json(),
            announce=traced(
                Announcement(problem=problem, reason=reason), RECONCILE, cause=problem.code
            ),
        )
        if moved:
            failpoint("reconcile_after_commit")
            log.warning("attempts_given_up", reason=reason, number=len(moved))
        self.mended[reason] += len(moved)
        self.relay.hand_in(entry)
        await self.revoke(revocations(moved, reason))

    async def _remind(self) -> None:
        """Make up for READY messages that were lost: no queued task waits for ever."""
        if not await self.ready_is_read():
            return
        reminded, entry = await self.endings.remind(self._tells.ready)
        if reminded:
            log.info("queued_tasks_told_again", number=len(reminded))
            metrics.inc("octarm_orchestrator_told_again_total", len(reminded))
        self.mended["forgotten tasks told again"] += len(reminded)
        self.relay.hand_in(entry)
