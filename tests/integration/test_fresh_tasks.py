"""Fresh tasks are in no list, so that their end touches no index; nobody overlooks them."""

import re

import pytest

from octarm.common.storage import transaction
from octarm.ledger.domain.tenants import TenantRules, Tenants
from octarm.ledger.storage.backlog import PostgresBacklog
from octarm.ledger.storage.quotas import PostgresQuotas
from octarm.models.ids import derived_id
from octarm.models.queries import FindTasks
from octarm.models.states import TaskState
from tests.support.ledger import (
    Ledger,
    a_failure,
    a_result,
    news,
    record,
)
from tests.support.ledger import accept_plainly as accept

pytestmark = pytest.mark.integration

CHANGED_BY_THE_END = r"\b(?:state|event_seq|arm_id|instance_id|started_at|terminal_at|updated_at)\b"


async def listed(ledger: Ledger, task_id: str) -> tuple[str | None, bool]:
    ((state, is_queued),) = await ledger.execute(
        "select listed_state, queued_since is not null from ledger.task where id = %s", task_id
    )
    return state, is_queued


async def commits(ledger: Ledger) -> int:
    ((number,),) = await ledger.execute("select count(*) from ledger.fresh")
    return int(number)


async def pass_by(ledger: Ledger) -> None:
    """Let the reconciler look when the fresh ones are fresh no more."""
    await ledger.execute("update ledger.fresh set accepted_at = now() - interval '1 min'")
    await ledger.endings.wake(lambda _: [])


async def test_no_index_has_a_column_that_the_end_of_a_short_attempt_changes(
    ledger: Ledger,
) -> None:
    found = await ledger.execute(
        "select indexdef from pg_indexes where schemaname = 'ledger' and tablename = 'task'"
    )

    assert len(found) > 10
    assert [
        definition for (definition,) in found if re.search(CHANGED_BY_THE_END, definition)
    ] == []


async def test_a_short_attempt_is_listed_neither_before_nor_after_its_end(ledger: Ledger) -> None:
    task_id = await accept(ledger)
    before = await listed(ledger, task_id)

    await record(ledger, *news(a_result(task_id)))

    assert await ledger.state_of(task_id) == ("completed", 1)
    assert [before, await listed(ledger, task_id)] == [(None, False)] * 2


async def test_what_is_queued_for_longer_is_listed_and_ends_like_others(ledger: Ledger) -> None:
    ended, late = await accept(ledger), await accept(ledger)
    await record(ledger, *news(a_result(ended)))

    await pass_by(ledger)

    assert [await listed(ledger, it) for it in (ended, late)] == [(None, False), ("queued", True)]
    assert await commits(ledger) == 0
    await record(ledger, *news(a_result(late)))
    assert await ledger.state_of(late) == ("completed", 1)
    assert await listed(ledger, late) == (None, False)


async def test_a_row_that_somebody_holds_keeps_nobody_waiting(ledger: Ledger) -> None:
    """A process that is paused in a transaction holds its rows for up to fifteen seconds."""
    task_id = await accept(ledger)
    async with transaction(ledger.pool) as paused:
        await paused.execute("select from ledger.task for update")

        await pass_by(ledger)

        assert (await listed(ledger, task_id), await commits(ledger)) == ((None, False), 1)
    await pass_by(ledger)
    assert (await listed(ledger, task_id), await commits(ledger)) == (("queued", True), 0)


async def test_nobody_is_listed_before_that(ledger: Ledger) -> None:
    task_id = await accept(ledger)
    await ledger.execute("update ledger.fresh set accepted_at = now() + interval '1 h'")

    await ledger.endings.wake(lambda _: [])

    assert (await listed(ledger, task_id), await commits(ledger)) == ((None, False), 1)


async def test_a_fresh_task_that_fails_is_listed(ledger: Ledger) -> None:
    again, failed = await accept(ledger), await accept(ledger)

    await record(ledger, *news(a_failure(again), a_failure(failed, retryable=False)))

    assert await listed(ledger, again) == ("waiting", False)
    assert await listed(ledger, failed) == ("failed", False)
    await ledger.execute("update ledger.task set not_before = now() - interval '1 s'")
    woken, _ = await ledger.endings.wake(lambda _: [])
    assert [it.moved.task_id for it in woken] == [again]
    assert await listed(ledger, again) == ("queued", True)


async def test_fresh_and_listed_tasks_are_counted_and_found_alike(ledger: Ledger) -> None:
    old = await accept(ledger)
    await pass_by(ledger)
    new = await accept(ledger)

    found = await ledger.tasks.find(FindTasks(tenant="default", state=TaskState.QUEUED))
    waiting, _ = await PostgresBacklog(ledger.pool, max_open=9, max_outbox=9).count()

    assert {task.task_id for task in found.tasks} == {old, new}
    assert waiting == 2


async def test_a_fresh_task_is_told_again_like_others(ledger: Ledger) -> None:
    """Even if nobody ever looked at what is fresh."""
    task_id = await accept(ledger)
    await ledger.execute("update ledger.task set updated_at = now() - interval '16 min'")

    reminded, _ = await ledger.endings.remind(lambda _: [])

    assert [it.moved.task_id for it in reminded] == [task_id]


async def test_an_id_of_another_time_is_listed_at_once(ledger: Ledger) -> None:
    """Publishers make their own ids: the range of a commit must not span years."""
    task_id = await accept(ledger, task_id=derived_id("tsk", "mine", unix_ms=1_000_000_000_000))

    assert (await listed(ledger, task_id), await commits(ledger)) == (("queued", True), 0)


async def test_a_deadline_is_listed_at_once(ledger: Ledger) -> None:
    task_id = await accept(ledger, deadline="2999-01-01T00:00:00Z")

    assert await listed(ledger, task_id) == ("queued", True)


async def test_a_quota_that_comes_later_counts_fresh_tasks(ledger: Ledger) -> None:
    task_id = await accept(ledger)

    quotas = PostgresQuotas(ledger.pool, Tenants({"default": TenantRules(max_open=5)}))
    await quotas.adopt()

    assert await listed(ledger, task_id) == ("queued", True)


async def test_what_the_version_before_writes_is_listed(ledger: Ledger) -> None:
    """It knows no column `fresh`, and leaves no range."""
    task_id = await accept(ledger)
    columns = [
        name
        for (name,) in await ledger.execute(
            "select column_name from information_schema.columns where table_schema = 'ledger'"
            " and table_name = 'task' and is_generated = 'NEVER' and column_name <> 'fresh'"
        )
    ]
    others = ", ".join(name for name in columns if name not in ("id", "idem_key"))
    await ledger.execute(
        f"insert into ledger.task (id, {others}) select 'tsk_before', {others} from ledger.task"
    )

    assert await listed(ledger, "tsk_before") == ("queued", True)
    assert await listed(ledger, task_id) == (None, False)
