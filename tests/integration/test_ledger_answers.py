"""What the ledger answers fits into one message, whatever was stored in it."""

import pytest

from octarm.ledger.storage.reading import finding
from octarm.models.queries import FindTasks
from octarm.models.states import TaskState
from tests.support.ledger import Ledger, a_result, accept, news, record

pytestmark = pytest.mark.integration

MANY_THAT_COMPLETED = """
insert into ledger.task (id, tenant, req_hash, state, event_seq, timeout_s, max_retries, priority,
    tier, root_id, contract, created_at, terminal_at)
select t.id || '-' || n, tenant, req_hash, state, event_seq, timeout_s, max_retries, priority,
    tier, root_id, contract, created_at, terminal_at
from ledger.task t, generate_series(1, 10000) n where t.id = %s
"""
MADE_OTHERWISE = """
update ledger.task t set state = %s, lease_until = case when open then now() end,
    terminal_at = case when not open then now() end
from (select %s::boolean as open) as wanted where id = %s
"""


async def test_leaves_out_results_that_no_message_could_carry_together(ledger: Ledger) -> None:
    task_ids = [await accept(ledger) for _ in range(12)]
    large = "x" * 120_000
    await record(ledger, *news(*[a_result(t, output=large) for t in task_ids]))

    together = await ledger.tasks.outcomes("default", task_ids)
    (alone,) = await ledger.tasks.outcomes("default", task_ids[-1:])

    assert {outcome.state for outcome in together} == {TaskState.COMPLETED}
    assert sum(outcome.result is not None for outcome in together) == 4
    assert alone.result is not None
    assert alone.result.output == large


async def test_an_unreadable_result_spoils_nobody_elses_answer(ledger: Ledger) -> None:
    good, bad = await accept(ledger), await accept(ledger)
    body = a_result(bad).replace(b'{"said":"hello"}', b"1e999")
    await record(ledger, *news(a_result(good), body))

    outcomes = {o.task_id: o for o in await ledger.tasks.outcomes("default", [good, bad])}

    assert outcomes[good].result is not None
    assert outcomes[bad].state is TaskState.COMPLETED


async def test_a_page_of_large_tasks_fits_into_one_message(ledger: Ledger) -> None:
    task_ids = [await accept(ledger, context={"x": "y" * 120_000}) for _ in range(6)]
    found: list[str] = []
    cursor = ""

    for _ in range(2):
        page = await ledger.tasks.find(FindTasks(tenant="default", cursor=cursor))
        found += [task.task_id for task in page.tasks]
        cursor = page.cursor
        assert len(page.model_dump_json()) < 1024 * 1024

    assert (sorted(found), cursor) == (sorted(task_ids), "")


async def test_finds_tasks_of_a_state_without_reading_what_has_completed(ledger: Ledger) -> None:
    task_id = await accept(ledger)
    await record(ledger, *news(a_result(task_id)))
    await ledger.execute(MANY_THAT_COMPLETED, task_id)

    for state in set(TaskState) - {TaskState.COMPLETED}:
        await ledger.execute(MADE_OTHERWISE, state.value, not state.is_terminal, task_id)
        await ledger.execute("analyze ledger.task")
        wanted = FindTasks(tenant="default", state=state)

        found = await ledger.tasks.find(wanted)

        assert [task.task_id for task in found.tasks] == [task_id]
        assert await pages_read(ledger, wanted) < 100, state


async def pages_read(ledger: Ledger, wanted: FindTasks) -> int:
    statement, parameters = finding(wanted)
    async with ledger.pool.connection() as connection:
        explain = f"explain (analyze, buffers, format json) {statement}"
        cursor = await connection.execute(explain.encode(), parameters)
        (((said,),),) = await cursor.fetchall()
    plan = said["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
