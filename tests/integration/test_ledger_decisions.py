"""Attempts of the past, read from a real ledger as the simulator wants them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from octarm.ledger.storage import decisions
from octarm.ledger.storage.decisions import PostgresDecisions
from octarm.models.policies import FindDecisions
from octarm.policies.simulator.records import parse
from tests.support.ledger import Ledger, a_result, accept, news, placed

pytestmark = pytest.mark.integration
HOUR = timedelta(hours=1)


def since_an_hour(**changed: Any) -> FindDecisions:
    now = datetime.now(UTC)
    return FindDecisions(**{"since": now - HOUR, "until": now + HOUR, **changed})


async def finish(ledger: Ledger, task_id: str) -> None:
    items = news(a_result(task_id))
    await ledger.attempts.record(items, [0.0] * len(items), lambda _: [])
    await ledger.execute(
        "update ledger.attempt set placed_at = ended_at - interval '2 seconds',"
        " cost_microdollars = 700 where task_id = %s",
        task_id,
    )


async def test_tells_of_each_attempt_what_a_replay_needs(ledger: Ledger) -> None:
    task_id = await accept(
        ledger, labels={"team": "red"}, required_capabilities=["code"], priority=2, slots=3
    )
    await finish(ledger, task_id)

    (found,) = (await PostgresDecisions(ledger.pool).find(since_an_hour())).decisions

    assert (found.task_id, found.attempt, found.tenant, found.priority) == (
        task_id,
        1,
        "default",
        2,
    )
    assert (found.needs, found.labels, found.tier) == (["code"], {"team": "red"}, "interactive")
    assert found.took_s == pytest.approx(2, abs=0.01)
    assert (found.status, found.cost, found.slots) == ("success", 700, 3)
    recording = parse(found.model_dump_json().encode(), "it")
    assert [name for name, _ in recording.tasks] == [task_id]


async def test_pages_through_a_time_and_no_more(ledger: Ledger) -> None:
    task_ids = [await accept(ledger) for _ in range(5)]
    for task_id in task_ids:
        await finish(ledger, task_id)
    reading, found, after = PostgresDecisions(ledger.pool), list[str](), None
    while True:
        page = await reading.find(since_an_hour(limit=2, after=after))
        found += [it.task_id for it in page.decisions]
        if (after := page.after) is None:
            break

    assert found == sorted(task_ids)
    assert (await reading.find(since_an_hour(tenant="other"))).decisions == []
    now = datetime.now(UTC)
    earlier = FindDecisions(since=now - 2 * HOUR, until=now - HOUR)
    assert (await reading.find(earlier)).decisions == []


async def test_a_page_fits_one_message(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decisions, "MAX_PAGE_BYTES", 2_000)
    labels = {f"label-{n}": "v" * 50 for n in range(10)}
    task_ids = [await accept(ledger, labels=labels) for _ in range(4)]
    for task_id in task_ids:
        await finish(ledger, task_id)

    page = await PostgresDecisions(ledger.pool).find(since_an_hour())

    assert 0 < len(page.decisions) < 4
    assert page.after == page.decisions[-1].task_id


async def test_tasks_that_were_never_placed_are_not_told_of(ledger: Ledger) -> None:
    await accept(ledger)

    page = await PostgresDecisions(ledger.pool).find(since_an_hour())

    assert (page.decisions, page.after) == ([], None)


async def test_of_what_is_under_way_only_the_attempt_that_an_arm_has(ledger: Ledger) -> None:
    await accept(ledger)
    await finish(ledger, await accept(ledger))
    running = await accept(ledger, slots=2)
    await ledger.attempts.record([placed(running, arm_id="one")], [0.0], lambda _: [])

    page = await PostgresDecisions(ledger.pool).find(since_an_hour(under_way=True))

    assert [(it.task_id, it.attempt, it.arm_id, it.slots) for it in page.decisions] == [
        (running, 1, "one", 2)
    ]
