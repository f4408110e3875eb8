"""Bugs that are planted to show that the simulation finds them, each by one replaced function."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from msgspec import structs

from octarm.common.bus.delivery import ACK, HELD, Delivery, Outcome
from octarm.common.bus.publisher import Outgoing
from octarm.common.bus.runner import PullRunner
from octarm.ledger.domain.changes import Entry
from octarm.ledger.domain.lifecycle import ATTEMPTED
from octarm.models.errors import Unavailable
from octarm.models.states import TaskState
from octarm.orchestrator.results import ResultsConsumer
from octarm.orchestrator.usecases import relay
from octarm.orchestrator.usecases.leases import KeepLeases
from octarm.orchestrator.usecases.relay import Relay
from octarm.policies.queue.arms import Arms
from octarm.scheduler.usecases.admit import AdmitTasks
from octarm.scheduler.usecases.ask_first import AskFirst
from octarm.scheduler.usecases.desk import Desk
from octarm.scheduler.usecases.dispatch import Dispatch
from tests.simulation.rows import TaskRow
from tests.simulation.tables import Tables

Replacement = tuple[Any, str, Callable[[Any], Any]]


def _ack_before_commit(real: Any) -> Any:
    async def run_batch(self: PullRunner, batch: list[Delivery]) -> None:
        if isinstance(self._handle, ResultsConsumer):
            for delivery in batch:
                delivery.ack()
        await real(self, batch)

    return run_batch


def _no_attempt_fence(_: Any) -> Any:
    def may_move(self: Tables, row: TaskRow, item: Any) -> bool:
        return row.state.value in ATTEMPTED

    return may_move


def _delete_before_publish(real: Any) -> Any:
    async def publish(self: Relay, entries: list[Entry]) -> int:
        await self._outbox.delete([entry.seq for entry in entries])
        published: int = await real(self, entries)
        return published

    return publish


def _any_answer_will_do(_: Any) -> Any:
    def to_repeat(entry: Entry, answers: Sequence[Any]) -> None:
        return None

    return to_repeat


def _lease_not_renewed(_: Any) -> Any:
    async def take_in(self: KeepLeases, beat: Any) -> None:
        return None

    return take_in


def _leases_last_for_ever(_: Any) -> Any:
    def silent(self: Tables) -> list[TaskRow]:
        return []

    return silent


def _ready_acked_when_read(real: Any) -> Any:
    async def admit(
        self: AdmitTasks, deliveries: Sequence[Any], *read: Any, **named: Any
    ) -> list[Outcome]:
        outcomes: list[Outcome] = await real(self, deliveries, *read, **named)
        for delivery, outcome in zip(deliveries, outcomes, strict=True):
            if outcome is HELD:
                delivery.ack()
        return outcomes

    return admit


def _no_fence(real: Any) -> Any:
    def message(self: Dispatch, *arguments: Any, **named: Any) -> Outgoing:
        made: Outgoing = real(self, *arguments, **named)
        return structs.replace(made, fence=None)

    return message


def _nobody_is_asked(_: Any) -> Any:
    async def call_off(self: AskFirst, tasks: Any) -> None:
        return None

    return call_off


def _placements_acked_when_held(real: Any) -> Any:
    async def handle(self: ResultsConsumer, batch: list[Delivery]) -> list[Outcome]:
        outcomes: list[Outcome] = await real(self, batch)
        return [ACK if outcome is HELD else outcome for outcome in outcomes]

    return handle


def _a_bundle_in_doubt_is_made_anew(real: Any) -> Any:
    async def dispatch(self: Dispatch, decisions: Any, now: Any, **named: Any) -> int:
        placed: int = await real(self, decisions, now, **named)
        bundles, self._unsettled = self._unsettled, []
        for bundle in bundles:
            self._undo(bundle, Unavailable("no answer"))
        return placed

    return dispatch


def _old_groups_stay(_: Any) -> Any:
    def forget(self: Any) -> None:
        return None

    return forget


def _late_results_end_tasks(real: Any) -> Any:
    def write_late(self: Tables, strays: Any, news: Any) -> Any:
        late = real(self, strays, news)
        for change in late:
            row = self.open.get(change.task_id)
            if row is not None:
                self.end(row, TaskState.COMPLETED)
        return late

    return write_late


def _two_events_of_one_number(real: Any) -> Any:
    def wake(self: Tables, announce: Any) -> Any:
        woken, entry = real(self, announce)
        for change in woken:
            self.tasks[change.moved.task_id].event_seq -= 1
        return woken, entry

    return wake


def _capacity_counts_down(real: Any) -> Any:
    def finish(self: Desk, hold: Any) -> None:
        hold.left -= 1
        real(self, hold)

    return finish


BUGS: Final[dict[str, Replacement]] = {
    "ack-before-commit": (PullRunner, "_run_batch", _ack_before_commit),
    "no-attempt-fence": (Tables, "may_move", _no_attempt_fence),
    "delete-before-publish": (Relay, "_publish", _delete_before_publish),
    "any-answer-will-do": (relay, "_to_repeat", _any_answer_will_do),
    "lease-not-renewed": (KeepLeases, "__call__", _lease_not_renewed),
    "leases-last-for-ever": (Tables, "silent", _leases_last_for_ever),
    "ready-acked-when-read": (AdmitTasks, "__call__", _ready_acked_when_read),
    "no-fence": (Dispatch, "_message", _no_fence),
    "nobody-is-asked": (AskFirst, "_call_off", _nobody_is_asked),
    "placements-acked-when-held": (ResultsConsumer, "__call__", _placements_acked_when_held),
    "bundle-in-doubt-made-anew": (Dispatch, "__call__", _a_bundle_in_doubt_is_made_anew),
    "old-groups-stay": (Arms, "forget_groups", _old_groups_stay),
    "late-results-end-tasks": (Tables, "_write_late", _late_results_end_tasks),
    "two-events-of-one-number": (Tables, "wake", _two_events_of_one_number),
    "counted-off-twice": (Desk, "finish", _capacity_counts_down),
}


@contextmanager
def planted(name: str | None) -> Generator[None, None, None]:
    """Have a bug for a while."""
    if name is None:
        yield
        return
    owner, attribute, replace = BUGS[name]
    real = getattr(owner, attribute)
    setattr(owner, attribute, replace(real))
    try:
        yield
    finally:
        setattr(owner, attribute, real)
