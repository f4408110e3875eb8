"""What an attempt may use, what it has used, and how the ledger hears of it."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from octarm.common.bus.publisher import Outgoing
from octarm.models.commands import SpendReported
from octarm.models.contracts import BudgetLeft, TaskContract
from octarm.models.errors import BudgetExceeded
from octarm.models.ids import new_id
from octarm.sdk.spending import Call, Left, Limit, Spending, Spent, limit_of
from octarm.sdk.spends import MAX_WAITING, Spends
from tests.support.wait import wait_until


def a_task(budget: dict[str, Any], left: dict[str, Any] | None = None) -> TaskContract:
    return TaskContract.model_validate(
        {
            "task_id": new_id("tsk"),
            "tenant": "acme",
            "goal": "count",
            "created_at": datetime.now(UTC),
            "budget": budget,
            "budget_left": BudgetLeft(**left) if left is not None else None,
        }
    )


class TestLimit:
    def test_is_the_budget_when_all_of_it_is_left(self) -> None:
        budget = {"max_tokens": 5, "max_cost_dollars": 0.29, "max_time_seconds": 2}

        assert limit_of(a_task(budget)) == Limit(5, 290_000, None, 2000)

    def test_is_what_is_left_where_that_is_less(self) -> None:
        budget, left = {"max_tokens": 5, "max_llm_calls": 9}, {"tokens": 9, "llm_calls": 4}

        assert limit_of(a_task(budget, left)) == Limit(5, None, 4, None)
        assert limit_of(a_task({}, {"micro_dollars": 7})) == Limit(None, 7, None, None)


class TestSpending:
    def test_counts_small_change(self) -> None:
        spending = Spending(Limit(micro_dollars=100))

        calls = [spending.book(Spent(cost_dollars=0.000_000_1)) for _ in range(1000)]

        assert spending.total.cost_dollars == 0.0001
        assert sum(call.micro_dollars for call in calls if call) == 100
        spending.check()
        spending.book(Spent(cost_dollars=0.000_001))
        with pytest.raises(BudgetExceeded, match="101 micro-dollars used, the budget allows 100"):
            spending.check()

    def test_numbers_calls_that_have_no_number_below_zero(self) -> None:
        spending = Spending(Limit())

        calls = [spending.book(Spent(tokens=1), number) for number in (None, 1, None, 1)]

        assert calls == [Call(-1, 1, 0, 0), Call(1, 1, 0, 0), Call(-2, 1, 0, 0), None]

    @pytest.mark.parametrize("dollars", [float("nan"), float("inf"), -0.1, 1e10])
    def test_books_no_money_that_cannot_be_counted(self, dollars: float) -> None:
        spending = Spending(Limit())

        with pytest.raises(ValueError, match="spent"):
            spending.book(Spent(cost_dollars=dollars))

        assert spending.total == Spent()

    def test_shows_limit_spend_and_rest(self) -> None:
        spending = Spending(Limit(10, 500_000, None, 2000))
        spending.book(Spent(tokens=12, cost_dollars=0.1, llm_calls=1))

        budget = spending.budget(500)

        assert budget.limit == Left(10, 0.5, None, 2.0)
        assert budget.spent == Spent(12, 0.1, 1)
        assert budget.left == Left(0, 0.4, None, 1.5)


class Reports:
    def __init__(self) -> None:
        self.messages: list[Outgoing] = []
        self.backlog = 0

    def waiting(self) -> int:
        return self.backlog

    def put_report(self, message: Outgoing) -> None:
        self.messages.append(message)

    def calls(self) -> list[list[int]]:
        return [
            [call.call_no for call in SpendReported.model_validate_json(m.payload).calls]
            for m in self.messages
        ]


class TestSpends:
    async def test_tell_what_gathers_together(self) -> None:
        reports = Reports()
        spends = Spends(reports, arm_id="one", instance_id="i-1")
        task_id = new_id("tsk")

        for number in range(70):
            spends.put(task_id, 1, Call(number, 1, 2, 3))
        await wait_until(lambda: len(reports.messages) == 2)

        assert reports.calls() == [list(range(64)), list(range(64, 70))]
        assert len({message.msg_id for message in reports.messages}) == 2

    async def test_are_told_at_once_when_asked_to(self) -> None:
        reports = Reports()
        spends = Spends(reports, arm_id="one", instance_id="i-1")

        spends.put(new_id("tsk"), 1, Call(0, 1, 2, 3))
        spends.flush()
        spends.flush()
        await asyncio.sleep(0.02)

        assert reports.calls() == [[0]]

    async def test_are_left_to_the_result_while_the_bus_is_away(self) -> None:
        reports = Reports()
        reports.backlog = MAX_WAITING + 1
        spends = Spends(reports, arm_id="one", instance_id="i-1")

        spends.put(new_id("tsk"), 1, Call(0, 1, 2, 3))
        spends.flush()

        assert reports.messages == []
