"""A worker holds its attempts to what is left of their budgets, and tells what they use."""

import asyncio

from octarm.models.contracts import BudgetLeft, ResourceBudget, TaskContract
from octarm.sdk import Context
from octarm.sdk.spending import Call
from tests.support.workers import Arrangement, a_command, code_of


class TestBudget:
    async def test_gives_a_later_attempt_the_rest_of_the_budget(self) -> None:
        async def look(task: TaskContract, ctx: Context) -> list[object]:
            budget = ctx.budget
            return [budget.limit.tokens, budget.left.tokens, budget.left.llm_calls]

        command = a_command(
            budget=ResourceBudget(max_tokens=100), budget_left=BudgetLeft(tokens=30, llm_calls=2)
        )

        assert (await Arrangement(look).run(command)).output == [30, 30, 2]

    async def test_starts_nothing_that_has_no_budget_left(self) -> None:
        arrangement = Arrangement(lambda task, ctx: None)

        result = await arrangement.run(a_command(budget_left=BudgetLeft(tokens=0)))

        assert (code_of(result), result.retryable) == ("BUDGET_EXCEEDED", False)
        assert "started" not in arrangement.reports.said

    async def test_is_cut_off_when_the_time_of_the_budget_is_over(self) -> None:
        async def dawdle(task: TaskContract, ctx: Context) -> None:
            assert ctx.left.seconds is not None
            assert ctx.left.seconds <= 0.05
            await asyncio.sleep(10)

        result = await Arrangement(dawdle).run(a_command(budget_left=BudgetLeft(time_ms=50)))

        assert (code_of(result), result.retryable) == ("BUDGET_EXCEEDED", False)

    async def test_tells_each_call_once_also_after_the_end(self) -> None:
        contexts: list[Context] = []

        async def spend(task: TaskContract, ctx: Context) -> None:
            contexts.append(ctx)
            for _ in range(2):
                ctx.spend(tokens=5, cost_dollars=0.25, call_no=1)

        arrangement = Arrangement(spend)
        await arrangement.run(a_command())
        contexts[0].spend(llm_calls=1)

        told = [said for said in arrangement.reports.said if isinstance(said, Call)]
        assert told == [Call(1, 5, 250_000, 0), Call(-1, 0, 0, 1)]
