"""The short way of an attempt, from queued to completed in one statement."""

import asyncio
import hashlib
from typing import Any, LiteralString

import pytest

from octarm.common.storage import connected, transaction
from octarm.ledger.storage.spending import PostgresSpending
from octarm.models import hot
from tests.support.ledger import (
    Ledger,
    a_failure,
    a_result,
    accept,
    accept_plainly,
    events,
    news,
    record,
)
from tests.support.wait import wait_until

pytestmark = pytest.mark.integration
WAITING: LiteralString = (
    "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
)


async def rows(ledger: Ledger, query: LiteralString) -> list[tuple[Any, ...]]:
    """What the ledger holds."""
    async with connected(ledger.pool) as connection:
        return await (await connection.execute(query)).fetchall()


async def test_writes_attempt_and_result_whole(ledger: Ledger) -> None:
    task_id = await accept(ledger)
    body = a_result(task_id, started_at="2026-11-21T12:00:00Z")

    (moved,) = await record(ledger, *news(body))

    assert (moved.old, moved.new, moved.first_seq, moved.last_seq) == ("queued", "completed", 3, 5)
    checksum = hashlib.sha256(body).digest()
    assert await rows(
        ledger,
        "select t.arm_id, t.instance_id, t.started_at = a.started_at, t.terminal_at = a.ended_at,"
        " a.arm_id, a.instance_id, a.outcome, r.attempt, r.body::text, r.sha256"
        " from ledger.task t join ledger.attempt a on a.task_id = t.id"
        " join ledger.result r on r.task_id = t.id",
    ) == [("one", "i-1", True, True, "one", "i-1", "success", 1, body.decode(), checksum)]


async def test_a_result_after_calls_of_a_model_goes_the_general_way(ledger: Ledger) -> None:
    task_id, other = await accept(ledger), await accept(ledger)
    call = hot.CallSpend(task_id, 1, 0, tokens=7)
    await PostgresSpending(ledger.pool).meter([hot.SpendReported("one", "i-1", [call])])

    await record(ledger, *news(a_result(task_id), a_result(other)))

    assert await rows(
        ledger,
        "select state, outcome, tokens_used from ledger.task join ledger.attempt on task_id = id"
        " order by tokens_used",
    ) == [("completed", "success", 0), ("completed", "success", 7)]


async def test_successes_and_failures_of_one_batch_are_one_commit(ledger: Ledger) -> None:
    good, bad = await accept(ledger), await accept(ledger)

    moved = await record(ledger, *news(a_failure(bad), a_result(good)))

    assert {m.task_id: m.new for m in moved} == {good: "completed", bad: "waiting"}
    assert await rows(ledger, "select count(*) from ledger.outbox") == [(1,)]


async def test_a_result_of_another_arm_completes_nothing(ledger: Ledger) -> None:
    task_id = await accept(ledger)
    await ledger.execute("update ledger.task set arm_id = 'two'")

    assert not await record(ledger, *news(a_result(task_id)))
    assert not await rows(ledger, "select from ledger.result")


async def test_waits_for_nobody_while_it_holds_rows_that_others_may_wait_for(
    ledger: Ledger,
) -> None:
    low, high = sorted([await accept(ledger), await accept(ledger)])
    batch = news(a_failure(low, retryable=False), a_result(high))
    async with transaction(ledger.pool) as other:
        await other.execute("select from ledger.task where id = %b for update", [low])
        recording = asyncio.create_task(record(ledger, *batch))
        await wait_until(lambda: rows(ledger, WAITING), 60)

        # Recording would deadlock with us if it had locked this one before.
        await other.execute("select from ledger.task where id = %b for update nowait", [high])
    await recording

    assert await ledger.state_of(low) == ("failed", 1)
    assert await ledger.state_of(high) == ("completed", 1)


class TestOfWhatIsRemembered:
    """Tasks that this process accepted are ended and told of in one statement."""

    async def test_is_told_as_on_the_other_ways(self, ledger: Ledger) -> None:
        ledger.relatives.any_blocked = False
        task_id = await accept_plainly(ledger, goal="count")

        (moved,) = await record(ledger, *news(a_result(task_id)))

        assert (moved.tenant, moved.goal, moved.budgeted) == ("default", "count", False)
        assert await rows(
            ledger,
            "select state, event_seq, outcome, r.attempt from ledger.task"
            " join ledger.attempt a on a.task_id = id join ledger.result r on r.task_id = id",
        ) == [("completed", 5, "success", 1)]
        told = [(3, "placed"), (4, "started"), (5, "completed")]
        assert await events(ledger, task_id) == told

    async def test_is_ended_once(self, ledger: Ledger) -> None:
        ledger.relatives.any_blocked = False
        task_id = await accept_plainly(ledger)
        result = a_result(task_id)

        first = await record(ledger, *news(result))
        again = await record(ledger, *news(result))

        assert (len(first), again) == (1, [])
        assert len(await events(ledger, task_id)) == 3

    async def test_what_does_not_stand_so_keeps_no_other_from_its_end(self, ledger: Ledger) -> None:
        """Another process has cancelled one of them, of which this one has heard nothing."""
        ledger.relatives.any_blocked = False
        gone, task_id = await accept_plainly(ledger), await accept_plainly(ledger)
        await ledger.execute(
            "update ledger.task set state = 'cancelled', event_seq = 3, terminal_at = now()"
            " where id = %s",
            gone,
        )

        moved = await record(ledger, *news(a_result(gone), a_result(task_id)))

        assert [change.task_id for change in moved] == [task_id]
        assert await ledger.state_of(gone) == ("cancelled", 1)
        assert len(await events(ledger, task_id)) == 3

    async def test_goes_the_general_way_while_anybody_waits_for_others(
        self, ledger: Ledger
    ) -> None:
        first = await accept_plainly(ledger)
        second = await accept(ledger, depends_on=[first])

        await record(ledger, *news(a_result(first)))

        assert await ledger.state_of(second) == ("queued", 1)
