"""Budgets through the whole system: two orchestrators, a real arm, and its death."""

import asyncio
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import nats
import pytest
import pytest_asyncio

from octarm.cli.stack.services import OCTARM, System, replicated
from octarm.cli.stack.supervisor import Stack, running_stack
from octarm.clients.orchestrator import OrchestratorClient
from octarm.models.commands import SubmitTask
from octarm.models.contracts import TaskSubmission
from octarm.models.queries import SubmitAnswer
from octarm.sdk import Client
from octarm.verify.check import Sources, verify
from octarm.verify.invariants import Mode
from tests.support.wait import wait_until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(600),
    pytest.mark.asyncio(loop_scope="module"),
]

ROOT = Path(__file__).parents[2]
SPENDER = [sys.executable, "-m", "tests.support.spending_arm"]
AFFORDED = 613


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Stack, None]:
    """A stack with two orchestrators and the spending arm, for all tests of this module."""
    data = tmp_path_factory.mktemp("budgets")
    system = System(OCTARM.preparations, replicated(OCTARM.services, {"orchestrator": 2}))
    env = {"OCTARM_HEARTBEAT_S": "1", "PYTHONPATH": str(ROOT)}
    async with running_stack(
        data, extra_arms={"spender": SPENDER}, env=env, system=system
    ) as stack:
        yield stack


def a_task(**fields: Any) -> SubmitTask:
    return SubmitTask(
        submission=TaskSubmission.model_validate(
            {"goal": "spend", "assigned_arm": "spender"} | fields
        )
    )


async def test_two_orchestrators_let_exactly_613_of_a_thousand_tasks_run(stack: Stack) -> None:
    connection = await nats.connect(stack.urls.nats)
    orchestrator = OrchestratorClient(connection, timeout_s=30)

    async def accepted(*tasks: SubmitTask) -> list[str]:
        answers: list[SubmitAnswer] = await orchestrator.submit_many("default", tasks)
        refused = {answer.problem.code for answer in answers if answer.problem is not None}
        # A root has 1,000 descendants at most, and those that one commit refuses count in it.
        assert refused <= {"BUDGET_EXCEEDED", "INVALID_PLAN"}
        return [answer.accepted.task_id for answer in answers if answer.accepted is not None]

    # They wait for a time that never comes on this arm, so that their budgets stay open.
    far = {"assigned_arm": "nobody"}
    (root,) = await accepted(a_task(budget={"max_tokens": AFFORDED}, **far))
    parents = await accepted(*(a_task(parent_task_id=root, **far) for _ in range(10)))
    tasks = [
        a_task(
            parent_task_id=parents[number % 10],
            budget={"max_tokens": 1},
            context={"calls": [1]},
        )
        for number in range(1000)
    ]

    some = [tasks[start : start + 25] for start in range(0, 1000, 25)]
    answered = await asyncio.gather(*(accepted(*group) for group in some))
    ran = [task_id for group in answered for task_id in group]

    assert len(ran) == AFFORDED

    async def all_ended() -> bool:
        found = await orchestrator.states("default", ran)
        return all(outcome.state.is_terminal for outcome in found.values())

    await wait_until(all_ended, 120)
    view = await orchestrator.get("default", root)
    assert view.budget is not None
    assert (view.budget.reserved.tokens, view.budget.spent.tokens) == (0, AFFORDED)
    assert view.budget.overspent.tokens == 0
    report = await verify(Sources(stack.urls.postgres), mode=Mode.LIVE)
    assert report.status("I5") == "held", report
    await connection.close()


async def test_what_a_killed_arm_has_spent_is_paid_for_and_the_next_attempt_gets_the_rest(
    stack: Stack,
) -> None:
    async with Client(stack.urls.nats) as client:
        task = await client.submit(
            goal="spend",
            assigned_arm="spender",
            budget={"max_tokens": 100, "max_llm_calls": 10},
            context={"calls": [30, 12], "die_after": 1},
        )
        result = await asyncio.wait_for(task.result(), 90)
        view = await task.show()

    assert (result.attempt, result.output) == (2, {"left": 58})
    assert [attempt.tokens_used for attempt in view.attempts] == [42, 42]
    assert view.budget is not None
    assert view.budget.spent.tokens == 84
    assert view.budget.spent.llm_calls == 4


async def test_a_task_that_died_with_all_its_budget_is_not_tried_again(stack: Stack) -> None:
    async with Client(stack.urls.nats) as client:
        task = await client.submit(
            goal="spend",
            assigned_arm="spender",
            budget={"max_tokens": 42},
            context={"calls": [42], "die_after": 9},
        )
        await task.wait(90)
        view = await task.show()

    assert (view.state.value, view.attempt) == ("failed", 1)
    assert view.error is not None
    assert view.error.code == "BUDGET_EXCEEDED"
    assert view.budget is not None
    assert (view.budget.spent.tokens, view.budget.overspent.tokens) == (42, 0)
