"""Record what scheduler and arms report: placements, starts, progress, results."""

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Protocol

from octarm.common.telemetry import metrics
from octarm.ledger.domain.changes import Announce, Entry, Moved, Stray
from octarm.ledger.domain.news import AttemptNews, Key, Step
from octarm.ledger.hops import FINISH, traced
from octarm.models.states import TaskState
from octarm.orchestrator.usecases.announce import Announcement
from octarm.orchestrator.usecases.relay import Relay
from octarm.orchestrator.usecases.retrying import ChooseDelays

UNKNOWN: Final = "the ledger has no such task"
FOREIGN: Final = "the attempt is not this arm's"
CLOCKS_DIFFER: Final = timedelta(minutes=1)


class Attempts(Protocol):
    """Where news of attempts is written."""

    async def record(
        self, news: Sequence[AttemptNews], delays_s: Sequence[float], announce: Announce
    ) -> tuple[list[Moved], list[Stray], Entry | None]:
        """Write news in one transaction; repeating it changes nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Revocation:
    """An attempt that must not run (any more)."""

    task_id: str
    attempt: int
    arm_id: str
    dispatch_seq: int | None
    reason: str


Revoke = Callable[[Sequence[Revocation]], Awaitable[None]]


def _nobody(_: Sequence[Moved]) -> None:
    return None


@dataclass(frozen=True, slots=True)
class RecordNews:
    """Writes one batch of news and tells it; placements that came too late are revoked."""

    attempts: Attempts
    relay: Relay
    revoke: Revoke
    chance: Callable[[], float] = random.random
    watch: Callable[[Sequence[Moved]], None] = _nobody
    """Is told of the transitions that were committed."""
    delays: ChooseDelays = field(default=ChooseDelays())

    async def __call__(self, news: list[AttemptNews]) -> dict[Key, str]:
        """Record; gives the attempts whose news is refused, each with the reason."""
        if not news:
            return {}
        delays = await self.delays(news, self.chance)
        senders = {item.task_id: item.traceparent for item in news if item.traceparent}
        announce = traced(Announcement(news), FINISH, senders=senders)
        moved, strays, entry = await self.attempts.record(news, delays, announce)
        self.relay.hand_in(entry)
        self.watch(moved)
        _count(moved, strays)
        await self.revoke(_too_late(news, strays))
        if len(moved) == len(news):
            return {}
        told = {m.task_id for m in moved} | {s.task_id for s in strays}
        unknown = {item.key: UNKNOWN for item in news if item.task_id not in told}
        return unknown | _foreign(news, strays)


def _foreign(news: list[AttemptNews], strays: list[Stray]) -> dict[Key, str]:
    """Find results of attempts that were never their arm's."""
    by_key = {item.key: item for item in news} if strays else {}
    return {
        item.key: FOREIGN
        for stray in strays
        if (item := by_key[stray.task_id, stray.attempt]).step is Step.ENDED
        and stray.is_foreign_to(item.arm_id)
    }


def _too_late(news: list[AttemptNews], strays: list[Stray]) -> list[Revocation]:
    """Find attempts that were placed or started though the ledger had given them up."""
    by_key = {(item.task_id, item.attempt): item for item in news} if strays else {}
    return [
        Revocation(
            stray.task_id,
            stray.attempt,
            item.arm_id,
            item.placement.dispatch_seq if item.placement else None,
            f"the task is {stray.state}",
        )
        for stray in strays
        if (item := by_key[stray.task_id, stray.attempt]).step is not Step.ENDED
        and (_was_given_up(stray) or _was_placed_again(stray, item))
    ]


def _was_given_up(stray: Stray) -> bool:
    return not stray.is_duplicate and (
        stray.state.is_terminal or stray.current_attempt > stray.attempt
    )


def _was_placed_again(stray: Stray, item: AttemptNews) -> bool:
    """Whether an attempt that has had its result was sent out once more.

    A READY message whose acknowledgement got lost comes again after an hour, when DISPATCH has
    forgotten the first run command. The margin covers clocks that differ: an ordinary placement
    that its result has overtaken is older than the result.
    """
    return (
        stray.is_duplicate
        and stray.ended_at is not None
        and item.placement is not None
        and item.placement.placed_at > stray.ended_at + CLOCKS_DIFFER
    )


def _count(moved: list[Moved], strays: list[Stray]) -> None:
    # By identity first: nearly all have come to the same state.
    completed = sum(1 for change in moved if change.new is TaskState.COMPLETED)
    ended = Counter(m.new.value for m in moved if m.new is not TaskState.COMPLETED)
    if completed:
        metrics.inc("octarm_orchestrator_tasks_ended_total", completed, state="completed")
    for state, number in ended.items():
        if TaskState(state).is_terminal:
            metrics.inc("octarm_orchestrator_tasks_ended_total", number, state=state)
    late = sum(1 for stray in strays if not stray.is_duplicate)
    if late:
        metrics.inc("octarm_orchestrator_late_results_total", late)
