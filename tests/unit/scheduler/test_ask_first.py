"""What READY held before we led is not placed once more when the ledger has seen it placed."""

from collections.abc import Callable, Sequence
from datetime import timedelta

import pytest

from octarm.common.bus.delivery import HELD, Dead, Retry
from octarm.common.testing.fakes import NOON
from octarm.models.errors import Unavailable
from octarm.models.queries import Outcome
from octarm.models.states import TaskState
from octarm.scheduler.usecases.admit import AdmitTasks
from octarm.scheduler.usecases.ask_first import COPY_AFTER, AskFirst
from tests.support.scheduling import FakeDelivery, a_desk, facts, ready, task_id


class FakeLedger:
    """Says of each task what the test says; notes what it was asked."""

    def __init__(self, *outcomes: Outcome) -> None:
        self.outcomes = {outcome.task_id: outcome for outcome in outcomes}
        self.asked: list[str] = []
        self.away = False
        self.is_up_to_date = False
        self.meanwhile: Callable[[], object] | None = None

    async def states(self, tenant: str, task_ids: Sequence[str]) -> dict[str, Outcome]:
        if self.away:
            raise Unavailable("nobody answers")
        self.asked += task_ids
        found = {one: self.outcomes[one] for one in task_ids if one in self.outcomes}
        if self.meanwhile is not None:
            self.meanwhile()
        return found


def an_outcome(number: int, state: TaskState, attempt: int = 1) -> Outcome:
    return Outcome(task_id=task_id(number), state=state, attempt=attempt)


def asking(ledger: FakeLedger, until_seq: int = 5) -> AskFirst:
    desk = a_desk(facts("one"), slots=9)

    async def up_to_date() -> None:
        ledger.is_up_to_date = True

    return AskFirst(AdmitTasks(desk), desk, ledger, until_seq, up_to_date)


def waits(first: AskFirst, *numbers: int) -> list[bool]:
    return [first.desk.queue.get(task_id(number)) is not None for number in numbers]


@pytest.mark.parametrize("state", [TaskState.DISPATCHED, TaskState.RUNNING, TaskState.COMPLETED])
async def test_what_was_placed_before_is_acknowledged_and_not_placed(state: TaskState) -> None:
    first = asking(FakeLedger(an_outcome(1, state), an_outcome(2, TaskState.QUEUED)))
    past, both = FakeDelivery(ready(1), seq=4), FakeDelivery(ready(1), ready(2), seq=5)

    assert await first([past, both]) == [HELD, HELD]

    assert (past.acked, both.acked) == (1, 0)
    assert waits(first, 1, 2) == [False, True]


async def test_an_attempt_that_was_given_up_is_not_placed_and_the_next_one_is() -> None:
    first = asking(FakeLedger(an_outcome(1, TaskState.QUEUED, attempt=2)))

    await first([FakeDelivery(ready(1), seq=1), FakeDelivery(ready(1, attempt=2), seq=2)])

    waiting = first.desk.queue.get(task_id(1))
    assert waiting is not None
    assert waiting.attempt == 2


async def test_what_came_since_is_not_asked_about() -> None:
    ledger = FakeLedger()
    first = asking(ledger)

    await first([FakeDelivery(ready(1), seq=6)])

    assert ledger.asked == []
    assert waits(first, 1) == [True]


async def test_what_is_told_again_is_asked_about_once_the_ledger_knows_all() -> None:
    ledger = FakeLedger(an_outcome(1, TaskState.COMPLETED), an_outcome(2, TaskState.QUEUED))
    first = asking(ledger)
    late = NOON + COPY_AFTER + timedelta(seconds=1)
    again = FakeDelivery(ready(1), ready(2), seq=6, published_at=late)

    await first([again])

    assert ledger.is_up_to_date
    assert waits(first, 1, 2) == [False, True]
    ledger.asked.clear()
    await first([again, FakeDelivery(ready(2), seq=7, published_at=late)])
    assert ledger.asked == []


async def test_without_an_answer_what_is_older_comes_again_and_the_rest_goes_on() -> None:
    ledger = FakeLedger()
    ledger.away = True
    first = asking(ledger)

    outcomes = await first([FakeDelivery(ready(1), seq=1), FakeDelivery(ready(2), seq=6)])

    assert outcomes == [Retry(1.0), HELD]
    assert waits(first, 1, 2) == [False, True]


async def test_what_is_placed_and_done_while_the_ledger_answers_is_asked_about_again() -> None:
    ledger = FakeLedger(*(an_outcome(number, TaskState.QUEUED) for number in (1, 2, 3)))
    first = asking(ledger)
    desk = first.desk
    arm = desk.fleet.pool("one")
    await first([FakeDelivery(ready(1), seq=1), FakeDelivery(ready(3), seq=2)])

    def place_and_finish() -> None:
        waiting = desk.queue.get(task_id(1))
        assert waiting is not None
        desk.queue.remove(waiting)
        desk.fleet.reserve(arm, waiting.key, now=0.0)
        desk.done(waiting)
        desk.fleet.release(*waiting.key)

    ledger.meanwhile = place_and_finish
    copies = [FakeDelivery(ready(1), ready(2), seq=3), FakeDelivery(ready(3), seq=4)]
    assert await first(copies) == [Retry(1.0), HELD]
    assert waits(first, 1, 2, 3) == [False, False, True]

    ledger.meanwhile = None
    ledger.outcomes[task_id(1)] = an_outcome(1, TaskState.COMPLETED)
    assert await first([copies[0]]) == [HELD]
    assert waits(first, 1, 2, 3) == [False, True, True]


async def test_what_lands_while_the_ledger_answers_is_asked_about_again() -> None:
    ledger = FakeLedger(an_outcome(1, TaskState.QUEUED))
    first = asking(ledger)
    fleet = first.desk.fleet
    fleet.reserve(fleet.pool("one"), (task_id(1), 1), now=0.0)

    ledger.meanwhile = lambda: fleet.release(task_id(1), 1)
    assert await first([FakeDelivery(ready(1), seq=3)]) == [Retry(1.0)]

    assert waits(first, 1) == [False]


async def test_what_comes_again_after_it_was_settled_is_asked_about() -> None:
    ledger = FakeLedger(an_outcome(1, TaskState.COMPLETED))
    first = asking(ledger)

    again = FakeDelivery(ready(1), seq=7, deliveries=2)
    assert await first([again]) == [HELD]

    assert (ledger.is_up_to_date, again.acked) == (True, 1)
    assert waits(first, 1) == [False]


async def test_what_a_consumer_made_anew_gives_again_is_asked_about() -> None:
    ledger = FakeLedger(an_outcome(1, TaskState.COMPLETED))
    first = asking(ledger)
    assert await first([FakeDelivery(ready(2), seq=8)]) == [HELD]
    assert not ledger.is_up_to_date

    again = FakeDelivery(ready(1), seq=7)
    assert await first([again]) == [HELD]

    assert (ledger.is_up_to_date, again.acked) == (True, 1)
    assert waits(first, 1, 2) == [False, True]


async def test_what_waits_by_another_message_is_settled_when_the_ledger_saw_it_placed() -> None:
    ledger = FakeLedger(an_outcome(1, TaskState.COMPLETED))
    first = asking(ledger)

    fresh, old = FakeDelivery(ready(1), seq=7), FakeDelivery(ready(1), seq=3)
    assert await first([fresh, old]) == [HELD, HELD]

    assert (fresh.acked, old.acked) == (1, 1)
    assert (waits(first, 1), first.desk.holds) == ([False], {})


async def test_what_is_held_may_be_settled_while_the_ledger_is_asked_about_others() -> None:
    ledger = FakeLedger(an_outcome(2, TaskState.QUEUED))
    first = asking(ledger)
    desk = first.desk
    held = [FakeDelivery(ready(1), seq=7, deliveries=number) for number in (1, 2)]
    await first(held[:1])

    def place_and_finish() -> None:
        waiting = desk.queue.get(task_id(1))
        assert waiting is not None
        desk.queue.remove(waiting)
        desk.done(waiting)

    ledger.meanwhile = place_and_finish
    assert await first([held[1], FakeDelivery(ready(2), seq=3)]) == [HELD, HELD]

    assert [delivery.acked for delivery in held] == [0, 1]
    assert waits(first, 1, 2) == [False, True]


async def test_what_does_not_parse_is_dead() -> None:
    broken, fine = await asking(FakeLedger())(
        [FakeDelivery(data=b"{", seq=7), FakeDelivery(ready(1), seq=8)]
    )

    assert isinstance(broken, Dead)
    assert fine == HELD
