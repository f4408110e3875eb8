"""The ledger on a real Postgres: acceptance, transitions, fencing, endings."""

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from octarm.ledger.domain.changes import Known
from octarm.ledger.domain.lifecycle import events_to, may_move
from octarm.ledger.domain.news import AttemptNews
from octarm.models import hot
from octarm.models.errors import Conflict, InvalidRequest, NotFound, OctarmError
from octarm.models.ids import new_id
from octarm.models.queries import FindTasks
from octarm.models.states import TaskState
from octarm.orchestrator.usecases.accept import AcceptTasks
from octarm.orchestrator.usecases.endings import Reconcile
from octarm.orchestrator.usecases.record import UNKNOWN, RecordNews
from tests.support.ledger import (
    Ledger,
    Revoked,
    a_failure,
    a_new_task,
    a_result,
    accept,
    events,
    news,
    placed,
    record,
    started,
)

pytestmark = pytest.mark.integration


class TestAccepting:
    async def test_answers_a_known_key_with_the_task_that_exists(self, ledger: Ledger) -> None:
        first = await accept(ledger, idempotency_key="k")

        (again,), _ = await ledger.intake.accept([a_new_task(idempotency_key="k")], lambda _: [])

        assert again == Known(first, TaskState.QUEUED, created=False)

    @pytest.mark.bad_input(5)
    async def test_refuses_a_known_key_with_another_body(self, ledger: Ledger) -> None:
        await accept(ledger, idempotency_key="k")

        other = a_new_task(idempotency_key="k", goal="something else")
        (answer,), _ = await ledger.intake.accept([other], lambda _: [])

        assert isinstance(answer, Conflict)
        assert answer.code == "IDEMPOTENCY_CONFLICT"

    @pytest.mark.bad_input(4)
    async def test_makes_one_task_of_a_hundred_concurrent_submissions(self, ledger: Ledger) -> None:
        tasks = [a_new_task(idempotency_key="same") for _ in range(100)]

        groups = [tasks[:30], tasks[30:60], tasks[60:61], tasks[61:]]
        answered = await asyncio.gather(
            *(ledger.intake.accept(group, lambda _: []) for group in groups)
        )

        answers = [answer for answers, _ in answered for answer in answers]
        assert len({answer.task_id for answer in answers if isinstance(answer, Known)}) == 1
        assert sum(isinstance(a, Known) and a.created for a in answers) == 1

    async def test_keeps_the_keys_of_tenants_apart(self, ledger: Ledger) -> None:
        mine = await accept(ledger, idempotency_key="k", tenant="a")
        theirs = await accept(ledger, idempotency_key="k", tenant="b")

        assert mine != theirs

    @pytest.mark.bad_input(20)
    async def test_keeps_every_character_of_a_body(self, ledger: Ledger) -> None:
        nasty = "'; drop table task; -- \x1b[31m \u202e \u200b $1 {} .*> \r\n"

        task_id = await accept(ledger, goal=nasty, context={"x": nasty}, labels={"k": "\x1b[1m"})

        view = await ledger.tasks.get("default", task_id)
        assert view is not None
        assert view.task.goal == nasty
        assert view.task.context == {"x": nasty}

    @pytest.mark.bad_input(14)
    async def test_refuses_relatives_that_do_not_exist_and_keeps_the_others(
        self, ledger: Ledger
    ) -> None:
        orphan = a_new_task(parent_task_id=new_id("tsk"))
        waiting = a_new_task(depends_on=[new_id("tsk")])
        fine = a_new_task()

        answers, _ = await ledger.intake.accept([orphan, waiting, fine], lambda _: [])

        assert [type(answer) for answer in answers] == [NotFound, NotFound, Known]

    @pytest.mark.bad_input(14)
    async def test_limits_the_depth_of_a_tree(self, ledger: Ledger) -> None:
        parent = await accept(ledger)
        for _ in range(5):
            parent = await accept(ledger, parent_task_id=parent)

        (answer,), _ = await ledger.intake.accept([a_new_task(parent_task_id=parent)], lambda _: [])

        assert isinstance(answer, InvalidRequest)
        assert answer.code == "INVALID_PLAN"


class TestRecording:
    @pytest.mark.bad_input(11)
    async def test_tells_the_whole_way_when_the_result_overtakes_its_placement(
        self, ledger: Ledger
    ) -> None:
        task_id = await accept(ledger)

        await record(ledger, *news(a_result(task_id)))
        late_placement = await record(ledger, placed(task_id))

        assert late_placement == []
        told = await events(ledger, task_id)
        assert told == [(3, "placed"), (4, "started"), (5, "completed")]
        view = await ledger.tasks.get("default", task_id)
        assert view is not None
        assert view.attempts[0].decision is not None

    async def test_tells_each_step_once(self, ledger: Ledger) -> None:
        task_id = await accept(ledger)

        for _ in range(2):
            await record(ledger, placed(task_id))
        for _ in range(2):
            await record(ledger, started(task_id))
        for _ in range(2):
            await record(ledger, *news(a_result(task_id)))

        told = await events(ledger, task_id)
        assert told == [(3, "placed"), (4, "started"), (5, "completed")]
        assert await ledger.state_of(task_id) == ("completed", 1)

    @pytest.mark.bad_input(11)
    async def test_takes_a_thousand_equal_results_as_one(self, ledger: Ledger) -> None:
        task_id = await accept(ledger)

        for _ in range(10):
            await asyncio.gather(*(record(ledger, *news(a_result(task_id))) for _ in range(100)))

        assert await ledger.execute("select count(*) from ledger.result") == [(1,)]
        assert await ledger.execute("select count(*) from ledger.late_result") == [(0,)]
        endings = [verb for _, verb in await events(ledger, task_id)]
        assert endings.count("completed") == 1

    async def test_opens_the_next_attempt_after_a_retryable_failure(self, ledger: Ledger) -> None:
        task_id = await accept(ledger)

        (moved,) = await record(ledger, *news(a_failure(task_id)))

        assert (moved.new, await ledger.state_of(task_id)) == (TaskState.WAITING, ("waiting", 2))
        assert (await events(ledger, task_id))[-1] == (5, "retried")

    async def test_ends_the_task_when_no_retry_is_left(self, ledger: Ledger) -> None:
        task_id = await accept(ledger, budget={"max_retries": 0})

        await record(ledger, *news(a_failure(task_id)))

        assert await ledger.state_of(task_id) == ("failed", 1)

    async def test_does_not_retry_what_cannot_help(self, ledger: Ledger) -> None:
        task_id = await accept(ledger)

        await record(ledger, *news(a_failure(task_id, retryable=False)))

        assert await ledger.state_of(task_id) == ("failed", 1)

    @pytest.mark.bad_input(10)
    async def test_keeps_the_result_of_an_older_attempt_as_late(self, ledger: Ledger) -> None:
        task_id = await accept(ledger)
        await record(ledger, started(task_id))
        await ledger.execute("update ledger.task set lease_until = now() - interval '1 s'")
        await ledger.endings.lose_silent(
            reason="silent", error='{"code": "ARM_UNAVAILABLE"}', announce=lambda _: []
        )

        for _ in range(2):
            await record(ledger, *news(a_result(task_id)))

        assert await ledger.state_of(task_id) == ("waiting", 2)
        assert await ledger.execute("select attempt from ledger.late_result") == [(1,)]
        assert [v for _, v in await events(ledger, task_id)].count("late_result") == 1

    @pytest.mark.bad_input(10)
    async def test_does_not_believe_another_arm(self, ledger: Ledger) -> None:
        task_id = await accept(ledger)
        await record(ledger, placed(task_id, arm_id="one"))

        await record(ledger, *news(a_result(task_id, arm_id="two")))

        assert (await ledger.state_of(task_id))[0] == "dispatched"

    @pytest.mark.bad_input(10)
    async def test_names_tasks_that_nobody_accepted(self, ledger: Ledger) -> None:
        unknown = new_id("tsk")
        record_news = RecordNews(ledger.attempts, ledger.relay, Revoked())

        assert await record_news(news(a_result(unknown))) == {(unknown, 1): UNKNOWN}
        assert await ledger.execute("select count(*) from ledger.attempt") == [(0,)]

    async def test_keeps_an_output_with_an_escaped_nul(self, ledger: Ledger) -> None:
        task_id = await accept(ledger)

        await record(ledger, *news(a_result(task_id, output="a\0b")))

        (outcome,) = await ledger.tasks.outcomes("default", [task_id])
        assert outcome.result is not None
        assert outcome.result.output == "a\0b"

    async def test_makes_only_moves_of_the_lifecycle_and_numbers_their_events(
        self, ledger: Ledger
    ) -> None:
        ways: dict[str, Callable[[str], AttemptNews]] = {
            "placed": placed,
            "started": started,
            "ended": lambda task_id: news(a_result(task_id))[0],
            "failed": lambda task_id: news(a_failure(task_id))[0],
            "failed for good": lambda task_id: news(a_failure(task_id, retryable=False))[0],
        }
        for state in TaskState:
            for way in ways.values():
                task_id = await accept(ledger)
                await ledger.execute(
                    "update ledger.task set lease_until = now(), state = %s where id = %s",
                    *(state.value, task_id),
                )
                for moved in await record(ledger, way(task_id)):
                    assert may_move(moved.old, moved.new), moved
                    verbs = events_to(moved.old, moved.new, reported=True)
                    assert moved.last_seq - moved.first_seq + 1 == len(verbs), moved


class TestEnding:
    async def test_revokes_an_attempt_that_is_placed_again_after_its_result(
        self, ledger: Ledger
    ) -> None:
        task_id, revoked = await accept(ledger), Revoked()
        tell = RecordNews(ledger.attempts, ledger.relay, revoked)
        await record(ledger, *news(a_result(task_id)))

        await tell([placed(task_id, seq=9)])
        overtaken = list(revoked)
        await ledger.execute("update ledger.attempt set ended_at = now() - interval '11 min'")
        await tell([placed(task_id, seq=19)])

        assert overtaken == []
        assert [r.dispatch_seq for r in revoked] == [19]
        assert await ledger.state_of(task_id) == ("completed", 1)

    async def test_loses_silent_attempts_and_wakes_the_next_at_once(self, ledger: Ledger) -> None:
        task_id = await accept(ledger)
        await record(ledger, started(task_id))
        await ledger.execute("update ledger.task set lease_until = now() - interval '1 s'")

        await Reconcile(ledger.endings, ledger.relay, Revoked(), 1).once()

        assert await ledger.state_of(task_id) == ("queued", 2)
        told = [verb for _, verb in await events(ledger, task_id)]
        assert told[-2:] == ["retried", "ready"]

    async def test_a_lease_that_was_left_behind_brings_no_ended_task_back(
        self, ledger: Ledger
    ) -> None:
        task_id = await accept(ledger)
        await record(ledger, *news(a_result(task_id)))
        await ledger.execute("update ledger.task set lease_until = now() - interval '1 s'")

        await Reconcile(ledger.endings, ledger.relay, Revoked(), 1).once()

        assert await ledger.state_of(task_id) == ("completed", 1)

    async def test_keeps_an_attempt_whose_lease_is_renewed(self, ledger: Ledger) -> None:
        task_id = await accept(ledger)
        await record(ledger, started(task_id))
        await ledger.execute("update ledger.task set lease_until = now() - interval '1 s'")

        await ledger.endings.renew([(task_id, 1, "one", 15.0), (task_id, 2, "one", 15.0)])
        await Reconcile(ledger.endings, ledger.relay, Revoked(), 1).once()

        assert await ledger.state_of(task_id) == ("running", 1)

    async def test_gives_up_an_attempt_that_runs_past_its_timeout(self, ledger: Ledger) -> None:
        task_id = await accept(ledger, timeout_seconds=1, budget={"max_retries": 0})
        await record(ledger, started(task_id))
        await ledger.execute("update ledger.task set updated_at = now() - interval '12 s'")

        await Reconcile(ledger.endings, ledger.relay, Revoked(), 1).once()

        assert await ledger.state_of(task_id) == ("failed", 1)

    async def test_gives_up_an_attempt_whose_start_was_never_told(self, ledger: Ledger) -> None:
        task_id = await accept(ledger, timeout_seconds=1, budget={"max_retries": 0})
        await record(ledger, placed(task_id))
        await ledger.execute("update ledger.task set updated_at = now() - interval '62 s'")

        await ledger.endings.renew([(task_id, 1, "one", 15.0)])
        await Reconcile(ledger.endings, ledger.relay, Revoked(), 1).once()

        assert await ledger.state_of(task_id) == ("failed", 1)

    @pytest.mark.bad_input(12)
    async def test_does_not_believe_the_clock_of_an_arm(self, ledger: Ledger) -> None:
        task_id = await accept(ledger, timeout_seconds=1)
        await record(ledger, started(task_id))
        await ledger.execute("update ledger.task set started_at = now() - interval '1 h'")

        await Reconcile(ledger.endings, ledger.relay, Revoked(), 1).once()

        assert await ledger.state_of(task_id) == ("running", 1)

    async def test_times_out_what_is_past_its_deadline(self, ledger: Ledger) -> None:
        task_id = await accept(ledger, deadline="2999-01-01T00:00:00Z")
        await ledger.execute("update ledger.task set deadline = now() - interval '1 s'")

        await Reconcile(ledger.endings, ledger.relay, Revoked(), 1).once()

        assert await ledger.state_of(task_id) == ("timed_out", 1)

    async def test_tells_the_scheduler_again_of_what_was_queued_long_ago(
        self, ledger: Ledger
    ) -> None:
        forgotten = await accept(ledger, priority=2)
        await ledger.execute("update ledger.task set updated_at = now() - interval '16 min'")
        await accept(ledger)
        reconcile = Reconcile(ledger.endings, ledger.relay, Revoked(), 1)

        await reconcile.once()
        await reconcile.once()

        (message,) = [m for e in await ledger.outbox.older_than(-1) for m in e.messages]
        assert message.subject == "octarm.v1.cmd.task.place.0"
        (task,) = msgspec.json.decode(message.payload, type=hot.PlaceTasks).tasks
        assert (task.task_id, task.attempt, task.priority) == (forgotten, 1, 2)
        assert await ledger.state_of(forgotten) == ("queued", 1)

    async def test_tells_nothing_again_while_the_queue_is_still_being_read(
        self, ledger: Ledger
    ) -> None:
        async def is_read() -> bool:
            return False

        await accept(ledger)
        await ledger.execute("update ledger.task set updated_at = now() - interval '16 min'")

        await Reconcile(ledger.endings, ledger.relay, Revoked(), 1, ready_is_read=is_read).once()

        assert await ledger.outbox.count() == 0

    async def test_wakes_a_dependant_when_the_last_dependency_completes(
        self, ledger: Ledger
    ) -> None:
        one, two = await accept(ledger), await accept(ledger)
        waiting = await accept(ledger, depends_on=[one, two])
        reconcile = Reconcile(ledger.endings, ledger.relay, Revoked(), 1)

        await record(ledger, *news(a_result(one)))
        await reconcile.once()
        before = await ledger.state_of(waiting)
        await record(ledger, *news(a_result(two)))
        await reconcile.once()

        assert before == ("waiting", 1)
        assert await ledger.state_of(waiting) == ("queued", 1)

    async def test_fails_a_dependant_whose_dependency_failed(self, ledger: Ledger) -> None:
        one = await accept(ledger)
        waiting = await accept(ledger, depends_on=[one])

        await record(ledger, *news(a_failure(one, retryable=False)))
        await Reconcile(ledger.endings, ledger.relay, Revoked(), 1).once()

        assert await ledger.state_of(waiting) == ("failed", 1)


class TestReading:
    @pytest.mark.bad_input(32)
    async def test_pages_newest_first_and_keeps_to_the_tenant(self, ledger: Ledger) -> None:
        mine = [await accept(ledger, labels={"team": "a"}) for _ in range(5)]
        await accept(ledger, tenant="other")

        first = await ledger.tasks.find(FindTasks(tenant="default", limit=3, label="team=a"))
        rest = await ledger.tasks.find(
            FindTasks(tenant="default", limit=3, cursor=first.cursor, label="team")
        )

        assert [t.task_id for t in first.tasks + rest.tasks] == sorted(mine, reverse=True)
        assert rest.cursor == ""

    @pytest.mark.parametrize("cursor", ["forged", "-1", "é", "AAAA", "dHNrX2Zvcmdl"])
    @pytest.mark.bad_input(32)
    async def test_refuses_a_forged_cursor(self, ledger: Ledger, cursor: str) -> None:
        with pytest.raises(InvalidRequest, match="cursor"):
            await ledger.tasks.find(FindTasks(tenant="default", cursor=cursor))


async def test_the_relay_publishes_first_and_forgets_afterwards(ledger: Ledger) -> None:
    stop = asyncio.Event()
    running = asyncio.create_task(ledger.relay.run(stop))
    task = a_new_task()
    accept_tasks = AcceptTasks(ledger.intake, ledger.relay, None, 1)  # type: ignore[arg-type]
    _, entry = await ledger.intake.accept([task], accept_tasks._announce)

    ledger.relay.hand_in(entry)
    stop.set()
    await running

    assert [m.subject.split(".")[3] for m in ledger.bus.published] == ["task", "tasks"]
    assert await ledger.outbox.count() == 0


async def test_an_entry_that_nobody_relayed_is_swept(ledger: Ledger) -> None:
    accept_tasks = AcceptTasks(ledger.intake, ledger.relay, None, 1)  # type: ignore[arg-type]
    await ledger.intake.accept([a_new_task()], accept_tasks._announce)
    await ledger.execute("update ledger.outbox set created_at = now() - interval '1 min'")
    ledger.bus.refused["octarm.v1.cmd.task.place.0"] = OctarmError("the stream is full")

    refused = await ledger.relay.sweep()
    left = await ledger.outbox.count()
    ledger.bus.refused.clear()
    await ledger.relay.sweep()

    assert (refused, left, await ledger.outbox.count()) == (0, 1, 0)
    assert len({m.msg_id for m in ledger.bus.published}) == len(ledger.bus.published)
