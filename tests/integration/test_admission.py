"""Admission on a real Postgres: refused work leaves nothing behind, known work is answered."""

import msgspec
import pytest

from octarm.common.clock import SystemClock
from octarm.ledger.domain.changes import Known
from octarm.ledger.storage.backlog import PostgresBacklog
from octarm.models import hot
from octarm.models.errors import Backpressure, OctarmError
from octarm.models.ids import new_id
from octarm.orchestrator.domain.admission import Gate
from octarm.orchestrator.usecases.accept import AcceptTasks, Submitted
from octarm.orchestrator.usecases.admission import WatchBacklog
from octarm.orchestrator.usecases.announce import Announcement
from tests.support.ledger import Ledger, a_result, news

pytestmark = pytest.mark.integration


class Door:
    """One orchestrator's way in, with a mark of ten tasks and two outbox rows."""

    def __init__(self, ledger: Ledger, *, max_open: int = 10, max_outbox: int = 1000) -> None:
        self.gate = Gate(max_open, max_outbox)
        backlog = PostgresBacklog(ledger.pool, max_open=max_open, max_outbox=max_outbox)
        self.watch = WatchBacklog(backlog, self.gate, SystemClock())
        self._accept = AcceptTasks(ledger.intake, ledger.relay, SystemClock(), 1, gate=self.gate)

    async def accept(self, *bodies: str, task_id: str | None = None) -> list[Known | OctarmError]:
        return await self._accept(
            [
                Submitted("acme", hot.SubmitTask(msgspec.Raw(body.encode()), task_id=task_id))
                for body in bodies
            ]
        )


GOAL = '{"goal":"x"}'


def keyed(key: str, goal: str = "x") -> str:
    return f'{{"goal":"{goal}","idempotency_key":"{key}"}}'


async def count(ledger: Ledger) -> int:
    ((number,),) = await ledger.execute("select count(*) from ledger.task")
    return int(number)


async def test_past_the_mark_nothing_is_stored(ledger: Ledger) -> None:
    door = Door(ledger)
    await door.accept(*[GOAL] * 10)

    answers = await door.accept(GOAL, keyed("new"), '{"goal":""}')

    assert [type(answer) for answer in answers[:2]] == [Backpressure, Backpressure]
    assert await count(ledger) == 10
    ((rows,),) = await ledger.execute("select count(*) from ledger.outbox")
    assert rows == 1


async def test_what_was_accepted_before_is_answered(ledger: Ledger) -> None:
    door = Door(ledger)
    task_id = new_id("tsk")
    (first,) = await door.accept(keyed("k"))
    await door.accept(GOAL, task_id=task_id)
    await door.accept(*[GOAL] * 8)
    assert isinstance(first, Known)

    again, other = await door.accept(keyed("k"), keyed("k", goal="another"))
    (by_id,) = await door.accept(GOAL, task_id=task_id)

    assert again == Known(first.task_id, first.state, created=False)
    assert isinstance(other, OctarmError)
    assert other.code == "IDEMPOTENCY_CONFLICT"
    assert isinstance(by_id, Known)


async def test_another_orchestrator_sees_the_same_mark(ledger: Ledger) -> None:
    one, other = Door(ledger), Door(ledger)
    await one.accept(*[GOAL] * 10)

    await other.watch.once()

    assert other.gate.is_closed


async def test_opens_again_when_enough_has_ended(ledger: Ledger) -> None:
    door = Door(ledger)
    answers = await door.accept(*[GOAL] * 10)
    ids = sorted(answer.task_id for answer in answers if isinstance(answer, Known))
    results = news(*(a_result(task_id) for task_id in ids[:5]))

    await ledger.attempts.record(results, [0.0] * 5, Announcement(results))
    await door.watch.once()

    (answer,) = await door.accept(GOAL)
    assert isinstance(answer, Known)


async def test_a_bus_that_takes_nothing_closes_the_door(ledger: Ledger) -> None:
    door = Door(ledger, max_outbox=2)
    await door.accept(GOAL)
    await door.accept(GOAL)

    await door.watch.once()

    (answer,) = await door.accept(GOAL)
    assert isinstance(answer, Backpressure)
