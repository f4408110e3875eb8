"""Tasks that wait for others, or for a time, on a real Postgres."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from octarm.ledger.domain.changes import Known
from octarm.ledger.domain.tasks import NewTask
from octarm.ledger.storage.policies import TaskPolicies
from octarm.models.errors import InvalidRequest, NotFound
from octarm.models.ids import new_id
from octarm.orchestrator.usecases.accept import AcceptTasks
from octarm.orchestrator.usecases.endings import Reconcile
from octarm.orchestrator.usecases.record import RecordNews, Revocation
from octarm.orchestrator.usecases.retrying import ChooseDelays
from tests.support.ledger import (
    Ledger,
    a_failure,
    a_new_task,
    a_result,
    accept,
    events,
    news,
    record,
    told,
)

pytestmark = pytest.mark.integration


async def revoke(_: Sequence[Revocation]) -> None:
    """No arm has anything."""


async def sweep(ledger: Ledger) -> None:
    await Reconcile(ledger.endings, ledger.relay, revoke, 1).once()


async def accept_all(ledger: Ledger, tasks: list[NewTask]) -> list[Any]:
    announce = AcceptTasks(ledger.intake, ledger.relay, None, 1)._announce  # type: ignore[arg-type]
    answers, _ = await ledger.intake.accept(tasks, announce)
    return answers


async def states(ledger: Ledger) -> dict[str, int]:
    rows = await ledger.execute("select state, count(*) from ledger.task group by state")
    return dict(rows)


class TestTheLastDependency:
    async def test_wakes_its_dependant_in_the_commit_that_finishes_it(self, ledger: Ledger) -> None:
        one, two = await accept(ledger), await accept(ledger)
        waiting = await accept(ledger, depends_on=[one, two])

        await record(ledger, *news(a_result(one)))
        before = await ledger.state_of(waiting)
        await record(ledger, *news(a_result(two)))

        assert before == ("waiting", 1)
        assert await ledger.state_of(waiting) == ("queued", 1)
        assert await events(ledger, waiting) == [(2, "ready")]
        assert await ledger.execute("select count(*) from ledger.blocked") == [(0,)]

    async def test_is_seen_by_one_of_two_that_finish_at_once(self, ledger: Ledger) -> None:
        for _ in range(10):
            needs = [await accept(ledger) for _ in range(4)]
            waiting = await accept(ledger, depends_on=needs)

            await asyncio.gather(*(record(ledger, *news(a_result(need))) for need in needs))

            assert await ledger.state_of(waiting) == ("queued", 1)

    async def test_is_seen_by_a_task_that_is_accepted_meanwhile(self, ledger: Ledger) -> None:
        for _ in range(10):
            need = await accept(ledger)
            waiting = a_new_task(depends_on=[need])

            await asyncio.gather(
                record(ledger, *news(a_result(need))), ledger.intake.accept([waiting], lambda _: [])
            )

            assert await ledger.state_of(waiting.task_id) == ("queued", 1)

    async def test_that_has_completed_long_ago_keeps_nobody_waiting(self, ledger: Ledger) -> None:
        need = await accept(ledger)
        await record(ledger, *news(a_result(need)))

        (answer,) = await accept_all(ledger, [task := a_new_task(depends_on=[need])])

        assert isinstance(answer, Known)
        assert answer.state == "queued"
        assert await events(ledger, task.task_id) == [(1, "accepted"), (2, "ready")]

    async def test_is_found_by_the_sweep_when_its_commit_did_not_look(self, ledger: Ledger) -> None:
        need = await accept(ledger)
        waiting = await accept(ledger, depends_on=[need])
        ledger.relatives.any_blocked = False

        await record(ledger, *news(a_result(need)))
        before = await ledger.state_of(waiting)
        await sweep(ledger)

        assert (before, await ledger.state_of(waiting)) == (("waiting", 1), ("queued", 1))


class TestAFailedDependency:
    @pytest.mark.parametrize(
        ("policy", "state", "verb"),
        [
            ("fail", "failed", "failed"),
            ("skip", "cancelled", "cancelled"),
            ("continue", "queued", "ready"),
        ],
    )
    async def test_does_what_its_dependant_says(
        self, ledger: Ledger, policy: str, state: str, verb: str
    ) -> None:
        need = await accept(ledger)
        waiting = await accept(ledger, depends_on=[need], on_dependency_failure=policy)

        await record(ledger, *news(a_failure(need, retryable=False)))

        assert await ledger.state_of(waiting) == (state, 1)
        assert await events(ledger, waiting) == [(2, verb)]
        if policy == "fail":
            assert (await told(ledger, waiting, "error"))["code"] == "DEPENDENCY_FAILURE"
        if policy == "skip":
            assert await told(ledger, waiting, "proof") == "never_started"
            (outcome,) = await ledger.tasks.outcomes("default", [waiting])
            assert outcome.error is not None
            assert outcome.error.code == "DEPENDENCY_FAILURE"

    async def test_of_several_ends_a_task_at_once_or_lets_it_wait_for_all(
        self, ledger: Ledger
    ) -> None:
        one, two = await accept(ledger), await accept(ledger)
        fails = await accept(ledger, depends_on=[one, two])
        goes_on = await accept(ledger, depends_on=[one, two], on_dependency_failure="continue")

        await record(ledger, *news(a_failure(one, retryable=False)))
        between = await ledger.state_of(goes_on)
        await record(ledger, *news(a_result(two)))

        assert await ledger.state_of(fails) == ("failed", 1)
        assert (between, await ledger.state_of(goes_on)) == (("waiting", 1), ("queued", 1))

    async def test_ends_whom_was_accepted_after_it(self, ledger: Ledger) -> None:
        need = await accept(ledger)
        await record(ledger, *news(a_failure(need, retryable=False)))

        late = await accept(ledger, depends_on=[need])

        assert await ledger.state_of(late) == ("failed", 1)

    async def test_goes_down_a_chain_of_any_length_and_its_children(self, ledger: Ledger) -> None:
        first = await accept(ledger)
        ids = [new_id("tsk") for _ in range(300)]
        chain = [
            a_new_task(task_id=task_id, depends_on=[before])
            for before, task_id in zip([first, *ids], ids, strict=False)
        ]
        child = a_new_task(parent_task_id=ids[-1])
        waits = a_new_task(depends_on=[child.task_id], on_dependency_failure="continue")
        await accept_all(ledger, [*chain, child, waits])

        await record(ledger, *news(a_failure(first, retryable=False)))

        assert await states(ledger) == {"failed": 301, "cancelled": 1, "queued": 1}


class TestAPlan:
    async def test_may_be_one_submission_in_any_order(self, ledger: Ledger) -> None:
        one, two, three = (new_id("tsk") for _ in range(3))

        answers = await accept_all(
            ledger,
            [
                a_new_task(task_id=three, depends_on=[one, two]),
                a_new_task(task_id=two, parent_task_id=one),
                a_new_task(task_id=one),
            ],
        )

        assert [answer.state for answer in answers] == ["waiting", "queued", "queued"]
        await record(ledger, *news(a_result(one), a_result(two)))
        assert await ledger.state_of(three) == ("queued", 1)

    async def test_is_the_same_plan_when_it_is_sent_again(self, ledger: Ledger) -> None:
        one, two = new_id("tsk"), new_id("tsk")
        tasks = [a_new_task(task_id=one), a_new_task(task_id=two, parent_task_id=one)]
        await accept_all(ledger, tasks)
        await record(ledger, *news(a_result(one)))

        answers = await accept_all(ledger, tasks)

        assert [(answer.task_id, answer.created) for answer in answers] == [
            (one, False),
            (two, False),
        ]

    async def test_has_no_cycle(self, ledger: Ledger) -> None:
        one, two, three = (new_id("tsk") for _ in range(3))

        answers = await accept_all(
            ledger,
            [
                a_new_task(task_id=one, depends_on=[two]),
                a_new_task(task_id=two, depends_on=[one]),
                a_new_task(task_id=three),
            ],
        )

        assert [type(answer) for answer in answers] == [InvalidRequest, InvalidRequest, Known]
        with pytest.raises(InvalidRequest):
            a_new_task(task_id=one, depends_on=[one])

    async def test_names_no_task_that_was_accepted_under_another_id(self, ledger: Ledger) -> None:
        known = await accept(ledger, idempotency_key="k")
        other, child = new_id("tsk"), new_id("tsk")

        answers = await accept_all(
            ledger,
            [
                a_new_task(task_id=other, idempotency_key="k"),
                a_new_task(task_id=child, parent_task_id=other),
            ],
        )

        assert answers[0].task_id == known
        assert isinstance(answers[1], NotFound)
        assert await ledger.execute("select count(*) from ledger.task") == [(1,)]

    async def test_has_at_most_a_hundred_children_and_a_thousand_dependants(
        self, ledger: Ledger
    ) -> None:
        parent = await accept(ledger)

        children = await accept_all(ledger, [a_new_task(parent_task_id=parent) for _ in range(120)])
        waiting: list[Any] = []
        for _ in range(6):
            waiting += await accept_all(
                ledger, [a_new_task(depends_on=[parent]) for _ in range(200)]
            )

        for answers, limit in ((children, 100), (waiting, 1000)):
            assert sum(isinstance(answer, Known) for answer in answers) == limit
            codes = {a.code for a in answers if isinstance(a, InvalidRequest)}
            assert codes == {"INVALID_PLAN"}

    @pytest.mark.timeout(600)
    async def test_of_ten_thousand_tasks_falls_in_one_commit(self, ledger: Ledger) -> None:
        root = await accept(ledger)
        layers = [[root]]
        for _ in range(10):
            above = layers[-1]
            tasks = [
                a_new_task(depends_on=[above[n % len(above)], above[(n * 7) % len(above)]])
                for n in range(1000)
            ]
            await accept_all(ledger, tasks)
            layers.append([task.task_id for task in tasks])

        await record(ledger, *news(a_failure(root, retryable=False)))

        assert await states(ledger) == {"failed": 10_001}
        assert await ledger.execute("select count(*) from ledger.blocked") == [(0,)]


class TestAStart:
    async def test_is_waited_for_by_the_clock_of_the_database(self, ledger: Ledger) -> None:
        task_id = await accept(ledger, not_before="2027-06-01T00:00:00+02:00")

        await sweep(ledger)
        before = await ledger.state_of(task_id)
        view = await ledger.tasks.get("default", task_id)
        await ledger.execute("update ledger.task set not_before = now() - interval '1 ms'")
        await sweep(ledger)

        assert before == ("waiting", 1)
        assert view is not None
        assert view.not_before is not None
        assert await ledger.state_of(task_id) == ("queued", 1)

    async def test_is_waited_for_after_the_last_dependency_too(self, ledger: Ledger) -> None:
        need = await accept(ledger)
        task_id = await accept(ledger, depends_on=[need], not_before="2027-06-01T00:00:00Z")

        await record(ledger, *news(a_result(need)))
        await sweep(ledger)
        before = await ledger.state_of(task_id)
        await ledger.execute("update ledger.task set not_before = now() where id = %s", task_id)
        await sweep(ledger)

        assert (before, await ledger.state_of(task_id)) == (("waiting", 1), ("queued", 1))


class TestARetry:
    async def test_waits_and_ends_as_the_contract_says(self, ledger: Ledger) -> None:
        retry = {"max_attempts": 2, "initial_seconds": 600.0, "max_seconds": 600.0, "jitter": 0.0}
        task_id = await accept(ledger, retry=retry)
        delays = ChooseDelays(TaskPolicies(ledger.pool))
        tell = RecordNews(ledger.attempts, ledger.relay, revoke, delays=delays)

        await tell(news(a_failure(task_id)))
        ((wait_s,),) = await ledger.execute(
            "select extract(epoch from not_before - updated_at)::int from ledger.task"
        )
        first = await ledger.state_of(task_id)
        await ledger.execute("update ledger.task set not_before = now()")
        await sweep(ledger)
        await tell(news(a_failure(task_id, 2)))

        assert (wait_s, first) == (600, ("waiting", 2))
        assert await ledger.state_of(task_id) == ("failed", 2)
