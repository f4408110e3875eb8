"""Rejecting queued tasks on a real Postgres: told, settled, and never what was placed."""

from collections.abc import AsyncGenerator
from typing import Any

import pytest

from octarm.ledger.storage.spending import PostgresSpending
from octarm.models.rejections import Rejection, RejectionCode
from octarm.orchestrator.usecases.budgets import SettleBudgets
from octarm.orchestrator.usecases.rejecting import RejectTasks
from octarm.verify.check import Sources, verify
from octarm.verify.invariants import Mode
from tests.support.ledger import (
    Ledger,
    a_failure,
    a_result,
    accept,
    bodies,
    events,
    news,
    placed,
    record,
    started,
)

pytestmark = pytest.mark.integration


@pytest.fixture
async def ledger(ledger: Ledger, postgres_url: str) -> AsyncGenerator[Ledger, None]:
    yield ledger
    await SettleBudgets(PostgresSpending(ledger.pool))()
    report = await verify(Sources(postgres_url), mode=Mode.LIVE)
    assert report.ok, report


async def reject(
    ledger: Ledger, *task_ids: str, attempt: int = 1, code: RejectionCode = "POLICY_REJECTED"
) -> list[str]:
    rejections = [
        Rejection(task_id=it, attempt=attempt, code=code, reason="no arm in the EU")
        for it in task_ids
    ]
    return await RejectTasks(ledger.rejecting, ledger.relay)(rejections)


async def error_of(ledger: Ledger, task_id: str) -> dict[str, Any]:
    error = (await bodies(ledger, task_id))[-1]["error"]
    assert isinstance(error, dict)
    return error


class TestAQueuedTask:
    async def test_ends_and_says_why_everywhere(self, ledger: Ledger) -> None:
        task_id = await accept(ledger)

        assert await reject(ledger, task_id) == [task_id]

        assert await ledger.state_of(task_id) == ("rejected", 1)
        assert (await events(ledger, task_id))[-1] == (3, "rejected")
        told = await error_of(ledger, task_id)
        assert (told["code"], told["detail"], told["retryable"]) == (
            "POLICY_REJECTED",
            "no arm in the EU",
            False,
        )
        view = await ledger.tasks.get("default", task_id)
        assert view is not None
        assert view.error is not None
        assert (view.status, view.error.code) == ("failed", "POLICY_REJECTED")

    async def test_may_come_again_when_there_was_only_no_room(self, ledger: Ledger) -> None:
        task_id = await accept(ledger)

        await reject(ledger, task_id, code="QUEUE_FULL")

        told = await error_of(ledger, task_id)
        assert (told["code"], told["status"], told["retryable"]) == ("QUEUE_FULL", 429, True)

    async def test_is_rejected_once(self, ledger: Ledger) -> None:
        one, two = await accept(ledger), await accept(ledger)
        await reject(ledger, one)
        before = await events(ledger, one)

        assert await reject(ledger, two, one, two) == [two]

        assert await events(ledger, one) == before

    async def test_is_rejected_at_a_later_attempt_too(self, ledger: Ledger) -> None:
        task_id = await accept(ledger)
        await record(ledger, *news(a_failure(task_id)))
        await ledger.endings.wake(lambda _: [])

        assert await reject(ledger, task_id, attempt=1) == []
        assert await reject(ledger, task_id, attempt=2) == [task_id]


class TestWhatHasGoneOn:
    async def test_stays_with_the_arm_that_has_it(self, ledger: Ledger) -> None:
        one, two, three = [await accept(ledger) for _ in range(3)]
        await record(ledger, placed(one), started(two), *news(a_result(three)))

        assert await reject(ledger, one, two, three) == []

        assert [(await ledger.state_of(it))[0] for it in (one, two, three)] == [
            "dispatched",
            "running",
            "completed",
        ]

    async def test_is_not_rejected_while_it_waits(self, ledger: Ledger) -> None:
        before = await accept(ledger)
        task_id = await accept(ledger, depends_on=[before])

        assert await reject(ledger, task_id) == []

    async def test_is_not_rejected_when_it_was_called_off(self, ledger: Ledger) -> None:
        task_id = await accept(ledger)
        await ledger.cancelling.cancel(
            task_id, "default", error="{}", inherited="{}", announce=lambda _: []
        )

        assert await reject(ledger, task_id) == []
        assert await reject(ledger, "tsk_01ka4z3v5we2t9r8q7p6n5m4k3") == []

    async def test_takes_its_arm_back_when_the_placement_is_heard_of_later(
        self, ledger: Ledger
    ) -> None:
        task_id = await accept(ledger)
        await reject(ledger, task_id)

        assert await record(ledger, placed(task_id)) == []

        assert await ledger.state_of(task_id) == ("rejected", 1)


class TestWhomItConcerns:
    async def test_dependants_end_and_children_are_called_off(self, ledger: Ledger) -> None:
        parent = await accept(ledger)
        child = await accept(ledger, parent_task_id=parent)
        after = await accept(ledger, depends_on=[parent])
        anyway = await accept(ledger, depends_on=[parent], on_dependency_failure="continue")

        await reject(ledger, parent)

        assert [(await ledger.state_of(it))[0] for it in (child, after, anyway)] == [
            "cancelled",
            "failed",
            "queued",
        ]

    async def test_what_it_had_reserved_goes_back_to_its_parent(self, ledger: Ledger) -> None:
        parent = await accept(ledger, budget={"max_tokens": 100})
        child = await accept(ledger, parent_task_id=parent, budget={"max_tokens": 60})

        await reject(ledger, child)

        view = await ledger.tasks.get("default", parent)
        assert view is not None
        assert view.budget is not None
        assert view.budget.reserved.tokens == 0
