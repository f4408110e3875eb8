"""How much work there is for an arm, read from a real ledger."""

import pytest

from octarm.ledger.storage.demand import PostgresDemand
from octarm.models.scaling import GetDemand
from tests.support.ledger import Ledger, a_result, accept, news, placed, record, started

pytestmark = pytest.mark.integration
WRITER = GetDemand(arm_id="writer", capabilities=["code", "write"])
OTHER = GetDemand(arm_id="other", capabilities=["paint"], takes_any=False)


async def figures(ledger: Ledger, arm: GetDemand = WRITER) -> tuple[int, int]:
    found = await PostgresDemand(ledger.pool).of(arm)
    return found.runnable_slots, found.running_slots


async def test_a_tasks_slots_count_from_its_queue_to_its_end(ledger: Ledger) -> None:
    task_id = await accept(ledger, required_capabilities=["code"], slots=3)

    assert await figures(ledger) == (3, 0)
    await record(ledger, placed(task_id, arm_id="writer"))
    assert await figures(ledger) == (0, 3)
    await record(ledger, started(task_id, arm_id="writer"))
    assert await figures(ledger) == (0, 3)
    await record(ledger, *news(a_result(task_id, arm_id="writer")))
    assert await figures(ledger) == (0, 0)


async def test_only_what_an_arm_could_run_counts_for_it(ledger: Ledger) -> None:
    await accept(ledger)
    await accept(ledger, required_capabilities=["code", "write"])
    await accept(ledger, required_capabilities=["paint"])
    await accept(ledger, assigned_arm="writer", slots=5)
    await accept(ledger, assigned_arm="third")

    assert await figures(ledger) == (7, 0)
    assert await figures(ledger, OTHER) == (1, 0)


async def test_what_waits_for_others_is_not_runnable_yet(ledger: Ledger) -> None:
    first = await accept(ledger)
    await accept(ledger, depends_on=[first])

    assert await figures(ledger) == (1, 0)


async def test_one_reading_answers_for_every_arm_for_a_while(ledger: Ledger) -> None:
    fresh, old = PostgresDemand(ledger.pool, fresh_s=0.0), PostgresDemand(ledger.pool, fresh_s=60.0)
    await old.of(WRITER)
    await accept(ledger, assigned_arm="writer")

    assert (await old.of(WRITER)).runnable_slots == 0
    assert (await fresh.of(WRITER)).runnable_slots == 1


async def test_it_says_when_there_is_more_than_it_reads(ledger: Ledger) -> None:
    for _ in range(3):
        await accept(ledger)

    some = await PostgresDemand(ledger.pool, most=2).of(WRITER)
    every = await PostgresDemand(ledger.pool, most=4).of(WRITER)

    assert (some.runnable_slots, some.capped) == (2, True)
    assert (every.runnable_slots, every.capped) == (3, False)
