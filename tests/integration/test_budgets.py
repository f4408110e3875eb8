"""Budgets on a real Postgres: races, spend, settling, and what is left for the next attempt."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, TypeVar

import msgspec
import psycopg
import pytest

from octarm.common.bus.publisher import Outgoing
from octarm.common.bus.task_history import events_in
from octarm.common.storage import open_pool
from octarm.ledger.domain.changes import AcceptAnswer, Known, Moved, Stopped, Woken
from octarm.ledger.domain.tasks import NewTask
from octarm.ledger.storage.intake import PostgresIntake
from octarm.ledger.storage.spending import PostgresSpending
from octarm.models import hot
from octarm.models.commands import PlaceTasks
from octarm.models.contracts import BudgetLeft
from octarm.models.errors import BudgetExceeded, Unavailable
from octarm.models.ids import new_id
from octarm.models.queries import BudgetView
from octarm.orchestrator.usecases.announce import Announcement
from octarm.orchestrator.usecases.budgets import MeterSpend, SettleBudgets
from octarm.verify.check import Sources, verify
from octarm.verify.invariants import Mode
from tests.support.ledger import (
    Ledger,
    a_failure,
    a_new_task,
    a_result,
    news,
    placed,
    record,
    started,
)

T = TypeVar("T")
PROBLEM = Unavailable("away").problem().model_dump_json()

pytestmark = pytest.mark.integration


@pytest.fixture
async def ledger(ledger: Ledger, postgres_url: str) -> AsyncGenerator[Ledger, None]:
    yield ledger
    report = await verify(Sources(postgres_url), mode=Mode.LIVE)
    assert report.ok, report


async def answers_to(ledger: Ledger, *tasks: NewTask) -> list[AcceptAnswer]:
    answers, _ = await ledger.intake.accept(tasks, lambda _: [])
    return answers


async def accept(ledger: Ledger, max_tokens: int | None = None, **fields: Any) -> str:
    budget = fields.pop("budget", {"max_tokens": max_tokens})
    (answer,) = await answers_to(ledger, a_new_task(budget=budget, **fields))
    assert isinstance(answer, Known), answer
    return answer.task_id


async def budget_of(ledger: Ledger, task_id: str, tenant: str = "default") -> BudgetView:
    view = await ledger.tasks.get(tenant, task_id)
    assert view is not None
    assert view.budget is not None
    return view.budget


async def tokens_of(ledger: Ledger, task_id: str) -> tuple[int | None, ...]:
    """Tokens reserved, spent and overspent."""
    budget = await budget_of(ledger, task_id)
    return budget.reserved.tokens, budget.spent.tokens, budget.overspent.tokens


async def meter(ledger: Ledger, *calls: hot.CallSpend, arm_id: str = "one") -> int:
    report = hot.SpendReported(arm_id, "i-1", list(calls))
    return await PostgresSpending(ledger.pool).meter([report])


def call(task_id: str, call_no: int, tokens: int, attempt: int = 1) -> hot.CallSpend:
    return hot.CallSpend(task_id, attempt, call_no, tokens, tokens * 2, 1)


def keep(seen: list[T]) -> Callable[[list[T]], list[Outgoing]]:
    """Announce nothing, and note what there was to announce."""

    def announce(some: list[T]) -> list[Outgoing]:
        seen.extend(some)
        return []

    return announce


def kinds(answers: Sequence[AcceptAnswer]) -> list[type]:
    return [type(answer) for answer in answers]


class TestReserving:
    async def test_a_batch_is_accepted_as_far_as_the_parent_affords_it(
        self, ledger: Ledger
    ) -> None:
        parent = await accept(ledger, 61)
        tasks = [a_new_task(parent_task_id=parent, budget={"max_tokens": 1}) for _ in range(100)]

        answers = await answers_to(ledger, *tasks)

        assert kinds(answers) == [Known] * 61 + [BudgetExceeded] * 39
        assert await tokens_of(ledger, parent) == (61, 0, 0)
        stored = await ledger.execute("select count(*) from ledger.task")
        assert stored == [(62,)]

    async def test_a_repeated_child_is_answered_and_not_charged_again(self, ledger: Ledger) -> None:
        parent = await accept(ledger, 10)
        fields: dict[str, Any] = {"parent_task_id": parent, "budget": {"max_tokens": 10}}
        (first,) = await answers_to(ledger, a_new_task(idempotency_key="k", **fields))

        (again,) = await answers_to(ledger, a_new_task(idempotency_key="k", **fields))

        assert isinstance(first, Known)
        assert isinstance(again, Known)
        assert (again.task_id, again.created) == (first.task_id, False)
        assert await tokens_of(ledger, parent) == (10, 0, 0)

    async def test_the_same_child_twice_in_a_batch_is_refused_twice(self, ledger: Ledger) -> None:
        parent = await accept(ledger, 10)
        fields: dict[str, Any] = {"parent_task_id": parent, "budget": {"max_tokens": 11}}
        twins = [a_new_task(idempotency_key="k", **fields) for _ in range(2)]

        answers = await answers_to(ledger, *twins)

        assert kinds(answers) == [BudgetExceeded] * 2

    @pytest.mark.bad_input(15)
    @pytest.mark.bad_input(15)
    async def test_money_is_counted_in_micro_dollars(self, ledger: Ledger) -> None:
        parent = await accept(ledger, budget={"max_cost_dollars": 0.3})
        tasks = [
            a_new_task(parent_task_id=parent, budget={"max_cost_dollars": 0.1}) for _ in range(4)
        ]

        answers = await answers_to(ledger, *tasks)

        assert kinds(answers) == [Known] * 3 + [BudgetExceeded]
        budget = await budget_of(ledger, parent)
        assert budget.reserved.cost_dollars == budget.granted.cost_dollars == 0.3

    async def test_a_deep_tree_shares_one_budget(self, ledger: Ledger) -> None:
        ids = [await accept(ledger, 100)]
        for grant in (80, None, 60, None, 50):
            ids.append(await accept(ledger, grant, parent_task_id=ids[-1]))

        await record(ledger, *news(a_result(ids[-1], tokens_used=30)))

        told = [await tokens_of(ledger, task_id) for task_id in ids]
        assert told == [(80, 0, 0), (60, 0, 0), (60, 0, 0), (0, 30, 0), (0, 30, 0), (0, 30, 0)]
        for task_id in ids[-2::-1]:
            await record(ledger, *news(a_result(task_id)))
        assert [await tokens_of(ledger, task_id) for task_id in ids] == [(0, 30, 0)] * 6

    async def test_a_child_of_a_task_without_budget_has_its_own(self, ledger: Ledger) -> None:
        parent = await accept(ledger)
        child = await accept(ledger, 10, parent_task_id=parent)

        await record(ledger, *news(a_result(child, tokens_used=4)))

        assert await tokens_of(ledger, child) == (0, 4, 0)
        view = await ledger.tasks.get("default", parent)
        assert view is not None
        assert view.budget is None

    @pytest.mark.bad_input(15)
    async def test_the_table_itself_refuses_an_overdraft(self, ledger: Ledger) -> None:
        task_id = await accept(ledger, 10)

        with pytest.raises(psycopg.errors.CheckViolation):
            await ledger.execute(
                "update ledger.budget set spent_tokens = 11 where task_id = %s", task_id
            )


class TestRacing:
    @pytest.mark.bad_input(15)
    @pytest.mark.parametrize("turn", range(3))
    @pytest.mark.bad_input(15)
    async def test_a_thousand_tasks_race_for_a_budget_that_affords_613(
        self, ledger: Ledger, postgres_url: str, turn: int
    ) -> None:
        root = await accept(ledger, 613)
        groups = [await accept(ledger, parent_task_id=root) for _ in range(10)]
        tasks = [
            a_new_task(parent_task_id=groups[n % 10], budget={"max_tokens": 1}) for n in range(1000)
        ]
        pools = [await open_pool(postgres_url, name=f"racer-{n}", wait_s=60) for n in range(2)]
        intakes = [PostgresIntake(pool, ledger.relatives) for pool in pools]

        size = (7, 50, 200)[turn]
        batches = [tasks[start : start + size] for start in range(0, 1000, size)]
        answers: list[AcceptAnswer] = []

        async def race(intake: PostgresIntake) -> None:
            while batches:
                some, _ = await intake.accept(batches.pop(), lambda _: [])
                answers.extend(some)

        # Two at a time in each, as an orchestrator does.
        await asyncio.gather(*(race(intake) for intake in intakes * 2))
        for pool in pools:
            await pool.close()

        accepted = [answer.task_id for answer in answers if isinstance(answer, Known)]
        assert len(accepted) == 613
        assert sum(isinstance(answer, BudgetExceeded) for answer in answers) == 387
        assert await tokens_of(ledger, root) == (613, 0, 0)

        ended = [
            record(ledger, *news(*(a_result(i, tokens_used=1) for i in accepted[n::4])))
            for n in range(4)
        ]
        await asyncio.gather(*ended)
        await record(ledger, *news(*(a_result(i) for i in groups)))

        assert await tokens_of(ledger, root) == (0, 613, 0)
        assert await tokens_of(ledger, groups[0]) == (
            0,
            0 + await spent_below(ledger, groups[0]),
            0,
        )

    async def test_reports_results_and_children_at_once_add_up(self, ledger: Ledger) -> None:
        parent = await accept(ledger, 10_000)
        children = [await accept(ledger, 20, parent_task_id=parent) for _ in range(40)]

        async def live(number: int, task_id: str) -> None:
            for call_no in range(4):
                await meter(
                    ledger, call(task_id, call_no, 3), call(parent, number * 4 + call_no, 1)
                )
            await record(ledger, *news(a_result(task_id, tokens_used=13)))

        waiting = list(enumerate(children))

        async def work() -> None:
            while waiting:
                await live(*waiting.pop())

        await asyncio.gather(*(work() for _ in range(6)))

        assert await tokens_of(ledger, parent) == (0, 40 * 13 + 160, 0)


async def spent_below(ledger: Ledger, task_id: str) -> int:
    ((spent,),) = await ledger.execute(
        "select coalesce(sum(spent_tokens), 0)::int from ledger.budget where parent_id = %s",
        task_id,
    )
    return int(spent)


class TestSpending:
    async def test_is_known_before_the_attempt_ends_and_counts_once(self, ledger: Ledger) -> None:
        task_id = await accept(ledger, 100)
        await record(ledger, placed(task_id))

        first = await meter(ledger, call(task_id, 0, 30), call(task_id, -1, 5))
        again = await meter(ledger, call(task_id, 0, 30))

        assert (first, again) == (2, 0)
        assert await tokens_of(ledger, task_id) == (0, 35, 0)
        await record(ledger, *news(a_result(task_id, tokens_used=50)))
        assert await meter(ledger, call(task_id, 1, 15)) == 1
        assert await tokens_of(ledger, task_id) == (0, 50, 0)

    async def test_of_a_lost_attempt_stays_and_the_next_gets_the_rest(self, ledger: Ledger) -> None:
        task_id = await accept(ledger, 100)
        await record(ledger, placed(task_id))
        await record(ledger, started(task_id))
        await meter(ledger, call(task_id, 0, 30))
        await ledger.execute("update ledger.task set lease_until = now() - interval '1 s'")

        await ledger.endings.lose_silent(reason="x", error=PROBLEM, announce=lambda _: [])
        ready: list[Woken] = []
        await ledger.endings.wake(keep(ready))

        assert [woken.left for woken in ready] == [(70, None, None, None)]
        view = await ledger.tasks.get("default", task_id)
        assert view is not None
        assert (view.tokens_used, view.llm_calls) == (30, 1)

    async def test_a_late_result_is_paid_for(self, ledger: Ledger) -> None:
        parent = await accept(ledger, 100)
        child = await accept(ledger, 50, parent_task_id=parent)
        await record(ledger, placed(child))
        await ledger.execute("update ledger.task set lease_until = now() - interval '1 s'")
        await ledger.endings.lose_silent(reason="x", error=PROBLEM, announce=lambda _: [])
        await ledger.endings.wake(lambda _: [])
        await record(ledger, *news(a_result(child, 2, tokens_used=10)))

        await record(ledger, *news(a_result(child, 1, tokens_used=25)))
        await record(ledger, *news(a_result(child, 1, tokens_used=25)))

        assert await tokens_of(ledger, child) == (0, 35, 0)
        assert await tokens_of(ledger, parent) == (0, 35, 0)

    async def test_an_overspend_is_told_as_it_was(self, ledger: Ledger) -> None:
        parent = await accept(ledger, 100)
        child = await accept(ledger, 50, parent_task_id=parent)

        await record(ledger, *news(a_result(child, tokens_used=130)))

        assert await tokens_of(ledger, child) == (0, 50, 80)
        assert await tokens_of(ledger, parent) == (0, 100, 30)

    @pytest.mark.bad_input(10)
    async def test_of_tasks_attempts_and_arms_unknown_is_left_out(self, ledger: Ledger) -> None:
        task_id = await accept(ledger, 100)
        await record(ledger, placed(task_id))

        assert await meter(ledger, call(new_id("tsk"), 0, 5), call(task_id, 0, 5, attempt=2)) == 0
        assert await meter(ledger, call(task_id, 0, 5), arm_id="other") == 0
        assert await tokens_of(ledger, task_id) == (0, 0, 0)

    async def test_of_a_task_without_budget_is_shown_too(self, ledger: Ledger) -> None:
        task_id = await accept(ledger)
        await record(ledger, placed(task_id))

        await MeterSpend(PostgresSpending(ledger.pool))(
            [hot.SpendReported("one", "i-1", [call(task_id, 0, 9)])]
        )

        view = await ledger.tasks.get("default", task_id)
        assert view is not None
        assert (view.tokens_used, view.cost_dollars, view.budget) == (9, 0.000018, None)

    async def test_time_is_counted_over_all_attempts(self, ledger: Ledger) -> None:
        task_id = await accept(ledger, budget={"max_time_seconds": 100})
        await record(ledger, *news(a_failure(task_id, execution_time_ms=4000)))
        await ledger.endings.wake(lambda _: [])
        await record(ledger, *news(a_result(task_id, 2, execution_time_ms=2500)))

        budget = await budget_of(ledger, task_id)

        assert budget.granted.time_ms == 100_000
        assert budget.spent.time_ms == 6500

    async def test_a_lost_attempt_is_charged_from_its_start_to_its_end(
        self, ledger: Ledger
    ) -> None:
        task_id = await accept(ledger, budget={"max_time_seconds": 100}, timeout_seconds=3)
        await record(ledger, started(task_id))
        await ledger.execute("update ledger.attempt set started_at = now() - interval '2 s';")
        await ledger.execute("update ledger.task set lease_until = now() - interval '1 s'")

        await ledger.endings.lose_silent(reason="x", error=PROBLEM, announce=lambda _: [])

        spent = (await budget_of(ledger, task_id)).spent.time_ms or 0
        assert 2000 <= spent <= 3000


class TestEnding:
    @pytest.mark.parametrize("end", ["completed", "failed", "cancelled", "timed_out"])
    async def test_gives_back_what_was_not_used(self, ledger: Ledger, end: str) -> None:
        parent = await accept(ledger, 100)
        child = await accept(ledger, 60, parent_task_id=parent)
        await record(ledger, placed(child))
        await meter(ledger, call(child, 0, 20))

        if end == "completed":
            await record(ledger, *news(a_result(child, tokens_used=20)))
        elif end == "failed":
            await record(ledger, *news(a_failure(child, retryable=False)))
        elif end == "cancelled":
            await ledger.cancelling.cancel(
                child, "default", error=PROBLEM, inherited=PROBLEM, announce=lambda _: []
            )
            await ledger.cancelling.stop([Stopped(child, 1, "forced")], lambda _: [])
        else:
            await ledger.execute(
                "update ledger.task set deadline = now() - interval '1 s' where id = %s", child
            )
            await ledger.endings.time_out(reason="x", error=PROBLEM, announce=lambda _: [])

        assert (await ledger.state_of(child))[0] == end
        assert await tokens_of(ledger, parent) == (0, 20, 0)
        assert (await budget_of(ledger, child)).settled

    async def test_on_a_way_that_forgot_the_budget_is_found(self, ledger: Ledger) -> None:
        parent = await accept(ledger, 100)
        child = await accept(ledger, 60, parent_task_id=parent)
        await ledger.execute(
            "update ledger.task set state = 'rejected', error = '{}', terminal_at = now()"
            " where id = %s",
            child,
        )

        settle = SettleBudgets(PostgresSpending(ledger.pool))
        await settle()
        await settle()

        assert await tokens_of(ledger, parent) == (0, 0, 0)
        assert not (await budget_of(ledger, parent)).settled


class TestRetrying:
    async def test_with_nothing_left_ends_the_task(self, ledger: Ledger) -> None:
        task_id = await accept(ledger, budget={"max_llm_calls": 2})
        announced: list[Outgoing] = []
        items = news(a_failure(task_id, llm_calls=2))

        def announce(moved: list[Moved]) -> list[Outgoing]:
            announced.extend(Announcement(items)(moved))
            return announced

        await ledger.attempts.record(items, [0.0], announce)

        assert await ledger.state_of(task_id) == ("failed", 1)
        view = await ledger.tasks.get("default", task_id)
        assert view is not None
        assert view.error is not None
        assert (view.error.code, view.error.status) == ("BUDGET_EXCEEDED", 402)
        assert "no LLM calls are left" in view.error.detail
        events = [e for m in announced if ".evt.tasks." in m.subject for e in events_in(m.payload)]
        ending = next(msgspec.json.decode(e.body) for e in events if e.verb == "failed")
        assert (ending["error"]["code"], ending["seq"]) == ("BUDGET_EXCEEDED", 5)
        assert await ledger.execute("select attempt from ledger.result") == [(1,)]

    async def test_after_a_lost_attempt_with_nothing_left_ends_it_too(self, ledger: Ledger) -> None:
        task_id = await accept(ledger, 10)
        await record(ledger, placed(task_id))
        await meter(ledger, call(task_id, 0, 10))
        await ledger.execute("update ledger.task set lease_until = now() - interval '1 s'")

        moved, _ = await ledger.endings.lose_silent(
            reason="x", error=PROBLEM, announce=Announcement([])
        )

        assert [(m.new.value, m.attempt) for m in moved] == [("failed", 1)]
        assert await ledger.state_of(task_id) == ("failed", 1)

    async def test_is_told_what_is_left_in_its_command(self, ledger: Ledger) -> None:
        parent = await accept(ledger, 100)
        task = a_new_task(parent_task_id=parent, budget={"max_llm_calls": 3})
        seen: list[NewTask] = []
        await ledger.intake.accept([task], keep(seen))

        assert seen[0].left == (100, None, 3, None)

    async def test_that_waited_for_a_sibling_is_told_what_the_sibling_gave_back(
        self, ledger: Ledger
    ) -> None:
        parent = await accept(ledger, 100)
        sibling = await accept(ledger, 60, parent_task_id=parent)
        waiting = await accept(ledger, parent_task_id=parent, depends_on=[sibling])
        await accept(ledger, 40, parent_task_id=parent)

        await record(ledger, *news(a_result(sibling, tokens_used=10)))

        assert (await ledger.state_of(waiting))[0] == "queued"
        told = [
            task.task
            for entry in await ledger.outbox.older_than(-1)
            for message in entry.messages
            if ".cmd.task.place." in message.subject
            for task in PlaceTasks.model_validate_json(message.payload).tasks
            if task.task_id == waiting
        ]
        assert [task.budget_left for task in told] == [BudgetLeft(tokens=50)]
