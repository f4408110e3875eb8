"""The checker on budgets: clean after real work, and loud about every way to miscount."""

from typing import Any

import pytest

from octarm.ledger.domain.changes import Known
from octarm.ledger.storage.spending import PostgresSpending
from octarm.models import hot
from octarm.orchestrator.usecases.announce import Announcement
from octarm.verify.check import Sources, verify
from octarm.verify.invariants import Mode
from tests.support.ledger import Ledger, a_new_task, a_result, news, placed

pytestmark = pytest.mark.integration


async def accept(ledger: Ledger, max_tokens: int | None, **fields: Any) -> str:
    task = a_new_task(budget={"max_tokens": max_tokens}, **fields)
    (answer,), _ = await ledger.intake.accept([task], lambda _: [])
    assert isinstance(answer, Known)
    return answer.task_id


async def end(ledger: Ledger, task_id: str, tokens: int) -> None:
    items = news(a_result(task_id, tokens_used=tokens))
    await ledger.attempts.record(items, [0.0], Announcement(items))


async def a_worked_tree(ledger: Ledger) -> tuple[str, str, str]:
    """A root that still runs, a child without limits that has ended, a grandchild that runs."""
    root = await accept(ledger, 100)
    child = await accept(ledger, None, parent_task_id=root)
    grandchild = await accept(ledger, 30, parent_task_id=child)
    items = [placed(grandchild)]
    await ledger.attempts.record(items, [0.0], Announcement(items))
    call = hot.CallSpend(grandchild, 1, 0, 12)
    await PostgresSpending(ledger.pool).meter([hot.SpendReported("one", "i-1", [call])])
    await end(ledger, child, 20)
    return root, child, grandchild


async def test_a_worked_tree_is_clean_while_it_lives_and_when_it_is_done(
    ledger: Ledger, postgres_url: str
) -> None:
    root, _, grandchild = await a_worked_tree(ledger)

    live = await verify(Sources(postgres_url), mode=Mode.LIVE)
    await end(ledger, grandchild, 45)
    await end(ledger, root, 50)
    await ledger.execute("delete from ledger.outbox")
    done = await verify(Sources(postgres_url))

    assert (live.ok, live.status("I5")) == (True, "held"), live
    assert (done.ok, done.status("I5")) == (True, "held"), done


MISCOUNTS = {
    "a child's grant was not reserved": "update ledger.budget set reserved_tokens = 0",
    "a reservation was kept": "update ledger.budget set reserved_calls = 3",
    "spend was lost": "update ledger.budget set spent_tokens = 0 where spent_tokens = 20",
    "spend was counted twice": "update ledger.budget set spent_ms = spent_ms + 7",
    "an overspend was made up": "update ledger.budget set over_tokens = over_tokens + 1",
    "a call was not booked": "update ledger.attempt set tokens_used = 11 where tokens_used = 12",
    "an attempt was not booked": "update ledger.attempt set tokens_used = tokens_used + 1",
    "it was settled too early": "update ledger.budget set settled_at = now()",
    "a child lost its budget": "delete from ledger.budget where granted_tokens = 30",
}


@pytest.mark.parametrize("miscount", MISCOUNTS.values(), ids=MISCOUNTS.keys())
async def test_finds_every_miscount(ledger: Ledger, postgres_url: str, miscount: str) -> None:
    await a_worked_tree(ledger)

    await ledger.execute(miscount)

    report = await verify(Sources(postgres_url), mode=Mode.LIVE)
    assert report.broken == {"I5"}


async def test_finds_a_budget_that_nobody_settled(ledger: Ledger, postgres_url: str) -> None:
    await a_worked_tree(ledger)
    await ledger.execute("update ledger.budget set settled_at = null")
    await ledger.execute(
        "update ledger.task set terminal_at = now() - interval '1 h' where terminal_at is not null"
    )

    report = await verify(Sources(postgres_url), mode=Mode.LIVE)

    assert "I5" in report.broken
