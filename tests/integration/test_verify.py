"""The checker on a real Postgres: clean where the ledger is, and loud where it is not."""

import pytest

from octarm.ledger.domain.changes import Known
from octarm.models.errors import Unavailable
from octarm.orchestrator.usecases.announce import Announcement
from octarm.verify.check import Sources, verify
from octarm.verify.invariants import INVARIANTS, Mode
from tests.support.ledger import Ledger, a_new_task, a_result, accept_plainly, news

pytestmark = pytest.mark.integration


async def a_completed_task(ledger: Ledger) -> str:
    (answer,), _ = await ledger.intake.accept([a_new_task()], lambda _: [])
    assert isinstance(answer, Known)
    items = news(a_result(answer.task_id))
    await ledger.attempts.record(items, [0.0], Announcement(items))
    await ledger.execute("delete from ledger.outbox")
    return answer.task_id


async def test_a_ledger_whose_work_is_done_is_clean(ledger: Ledger, postgres_url: str) -> None:
    await a_completed_task(ledger)

    report = await verify(Sources(postgres_url))

    assert report.ok, report
    assert report.status("I3") == "held"
    assert report.status("H") == "not checked"
    told = {line["invariant"]: line["not_checked"] for line in report.as_dict()["invariants"]}
    assert set(told) == set(INVARIANTS)
    assert told["H"] == "no history file was given"


async def test_open_work_is_broken_when_idle_and_fine_when_live(
    ledger: Ledger, postgres_url: str
) -> None:
    await ledger.intake.accept([a_new_task()], lambda _: [])

    idle = await verify(Sources(postgres_url))
    live = await verify(Sources(postgres_url), mode=Mode.LIVE)

    assert (idle.broken, live.broken) == ({"I1"}, set())


async def test_finds_a_queued_task_that_nobody_would_look_for(
    ledger: Ledger, postgres_url: str
) -> None:
    await accept_plainly(ledger)
    assert (await verify(Sources(postgres_url), mode=Mode.LIVE)).ok
    await ledger.execute("delete from ledger.fresh")

    (violation,) = (await verify(Sources(postgres_url), mode=Mode.LIVE)).violations

    assert (violation.invariant, violation.rule) == (
        "I1",
        "a task is queued where nobody looks for it",
    )


async def test_names_the_first_of_many_and_counts_all(ledger: Ledger, postgres_url: str) -> None:
    await ledger.intake.accept([a_new_task() for _ in range(20)], lambda _: [])

    (violation,) = (await verify(Sources(postgres_url), first=3)).violations

    assert (violation.count, len(violation.examples)) == (20, 3)


async def test_says_what_to_do_about_a_database_without_ledger(postgres_url: str) -> None:
    with pytest.raises(Unavailable, match="no tables"):
        await verify(Sources(postgres_url))
