"""The ledger's rules without a ledger."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octarm.common.bus.task_history import events_in
from octarm.ledger.domain.budgets import UNLIMITED
from octarm.ledger.domain.changes import Stray
from octarm.ledger.domain.lifecycle import MOVES, OPEN, events_to, may_move, sources
from octarm.ledger.domain.messages import (
    event,
    history,
    pack,
    ready,
    result_for_event,
    unpack,
)
from octarm.ledger.domain.news import Gathering, Step
from octarm.ledger.domain.tasks import (
    FARTHEST_START,
    START_GRACE,
    new_task,
    ready_again,
    ready_task,
    with_left,
)
from octarm.models import hot
from octarm.models.contracts import TaskContract, TaskSubmission
from octarm.models.errors import InvalidRequest
from octarm.models.events import TaskAccepted, TaskEvents, TasksEnded
from octarm.models.ids import event_id, new_id
from octarm.models.states import TERMINAL, TaskState
from octarm.models.subjects import event_bucket
from octarm.orchestrator.domain.retries import backoff_s
from tests.support.ledger import a_failure, a_new_task, a_result, placed, started

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
TASK = new_id("tsk")
ABOUT: dict[str, Any] = {"task_id": TASK, "tenant": "acme", "attempt": 1, "at": NOON}


class TestLifecycle:
    def test_nothing_leaves_a_terminal_state(self) -> None:
        assert all(not MOVES[state] for state in TERMINAL)

    def test_every_open_state_can_be_cancelled_and_timed_out(self) -> None:
        for state in map(TaskState, OPEN):
            assert may_move(state, TaskState.CANCELLED)
            assert may_move(state, TaskState.TIMED_OUT)

    def test_names_the_states_before_a_state(self) -> None:
        assert sources(TaskState.DISPATCHED) == ["queued"]

    @pytest.mark.parametrize(
        ("old", "new", "told"),
        [
            ("queued", "dispatched", ["placed"]),
            ("queued", "running", ["placed", "started"]),
            ("dispatched", "running", ["started"]),
            ("queued", "completed", ["placed", "started", "completed"]),
            ("dispatched", "failed", ["started", "failed"]),
            ("running", "completed", ["completed"]),
            ("running", "waiting", ["retried"]),
            ("waiting", "queued", ["ready"]),
        ],
    )
    def test_tells_what_a_report_skipped(self, old: str, new: str, told: list[str]) -> None:
        assert events_to(TaskState(old), TaskState(new), reported=True) == told

    def test_tells_nothing_that_nobody_reported(self) -> None:
        assert events_to(TaskState.DISPATCHED, TaskState.WAITING, reported=False) == ["retried"]
        assert events_to(TaskState.QUEUED, TaskState.CANCELLED, reported=False) == ["cancelled"]


class TestBackoff:
    def test_doubles_up_to_a_minute(self) -> None:
        waits = [backoff_s(attempt, chance=0.5) for attempt in range(1, 9)]

        assert waits == [1, 2, 4, 8, 16, 32, 60, 60]

    @given(st.integers(1, 11), st.floats(0, 1))
    def test_stays_within_its_jitter(self, attempt: int, chance: float) -> None:
        middle = backoff_s(attempt, chance=0.5)

        assert 0.5 * middle <= backoff_s(attempt, chance=chance) <= 1.5 * middle


class TestNewTask:
    def test_the_contract_is_what_was_submitted_and_what_the_server_adds(self) -> None:
        task = a_new_task(goal="g", priority="high", labels={"a": "b"}, idempotency_key="k")

        contract = TaskContract.model_validate_json(task.contract)
        assert (contract.task_id, contract.tenant) == (task.task_id, "default")
        assert (contract.priority, contract.idempotency_key) == (3, "k")

    def test_equal_bodies_have_equal_hashes_whatever_their_key(self) -> None:
        tags = ["b", "a", "c"]
        one = a_new_task(required_capabilities=tags, idempotency_key="1")
        two = a_new_task(required_capabilities=tags[::-1], idempotency_key="2", priority=5)

        assert one.req_hash == two.req_hash
        assert one.req_hash != a_new_task(goal="another").req_hash

    @pytest.mark.bad_input(8)
    def test_refuses_a_deadline_that_has_passed(self) -> None:
        submission = TaskSubmission(goal="g", deadline=NOON - timedelta(seconds=1))

        with pytest.raises(InvalidRequest) as refused:
            new_task(submission, task_id=TASK, tenant="a", traceparent="", now=NOON)

        assert refused.value.code == "DEADLINE_UNMET"

    @pytest.mark.parametrize("relation", [{"depends_on": [TASK]}, {"parent_task_id": TASK}])
    @pytest.mark.bad_input(14)
    def test_refuses_to_be_its_own_relative(self, relation: dict[str, Any]) -> None:
        with pytest.raises(InvalidRequest, match="own"):
            a_new_task(task_id=TASK, **relation)

    def test_asks_the_scheduler_for_the_same_when_fresh_and_when_again(self) -> None:
        task = msgspec.structs.replace(
            a_new_task(
                required_capabilities=["b", "a"],
                assigned_arm="one",
                labels={"x": "y"},
                slots=3,
                deadline=NOON + timedelta(days=400),
            ),
            traceparent="00-1",
        )

        again = ready_again(
            task.contract,
            task_id=task.task_id,
            attempt=1,
            tenant=task.tenant,
            tier=task.tier,
            priority=task.priority,
            deadline=task.deadline,
            traceparent=task.traceparent,
            queued_at=task.created_at,
        )

        assert msgspec.json.encode(again) == msgspec.json.encode(ready_task(task))
        assert (again.slots, again.traceparent, again.deadline) == (3, "00-1", task.deadline)

    def test_tells_its_arm_what_is_left_of_its_budget(self) -> None:
        contract = b'{"goal":"g"}'

        assert with_left(contract, UNLIMITED) == contract
        assert msgspec.json.decode(with_left(contract, (1, 2, 3, 4))) == {
            "goal": "g",
            "budget_left": {"tokens": 1, "micro_dollars": 2, "llm_calls": 3, "time_ms": 4},
        }
        left = msgspec.json.decode(with_left(contract, (None, 0, None, 5)))["budget_left"]
        assert left == {"micro_dollars": 0, "time_ms": 5}


class TestMessages:
    def test_an_event_is_one_of_the_models_and_says_so_in_its_head(self) -> None:
        (message,) = history([event("accepted", seq=1, **ABOUT)])

        (fact,) = TaskEvents.model_validate_json(message.payload).events
        assert isinstance(fact, TaskAccepted)
        assert (fact.event_id, message.msg_id) == (event_id(TASK, 1), f"h:{TASK}:1:1")
        assert message.subject == f"octarm.v1.evt.tasks.moved.acme.{event_bucket(TASK)}"
        assert b"ce-type: octarm.tasks.moved\r\n" in message.head
        assert b"traceparent" not in message.head

    def test_what_moved_a_task_goes_before_what_ended_it(self) -> None:
        verbs = ["completed", "accepted", "placed", "failed"]
        told = [event(verb, seq=n, **ABOUT) for n, verb in enumerate(verbs, 1)]

        messages = history(told)

        kinds = [message.subject.split(".")[4] for message in messages[:-1]]
        assert kinds == ["moved", "completed", "stopped"]
        moved = events_in(messages[0].payload)
        assert [found.verb for found in moved] == ["accepted", "placed"]
        assert messages[-1].subject == "octarm.v1.evt.endings"

    def test_events_of_two_tenants_never_share_a_message(self) -> None:
        told = [event("accepted", seq=1, **ABOUT | {"tenant": name}) for name in ("acme", "zeta")]

        assert len(history(told)) == 2

    def test_ready_messages_hold_one_shard_and_at_most_64_tasks(self) -> None:
        tasks = [ready_task(a_new_task(tenant=f"t{i % 5}")) for i in range(300)]

        messages = ready(tasks, shards=4)

        batches = [msgspec.json.decode(m.payload, type=hot.PlaceTasks).tasks for m in messages]
        assert sum(map(len, batches)) == 300
        assert max(map(len, batches)) <= 64
        assert len({m.msg_id for m in messages}) == len(messages)

    def test_ready_messages_stay_below_half_a_mebibyte(self) -> None:
        tasks = [ready_task(a_new_task(context={"x": "y" * 100_000})) for _ in range(12)]

        assert all(len(m.payload) < 600_000 for m in ready(tasks, shards=1))

    def test_nothing_ready_is_no_message(self) -> None:
        assert ready([], shards=1) == []

    def test_endings_travel_together_by_64(self) -> None:
        endings = [event("completed", seq=n, **ABOUT) for n in range(1, 101)]

        messages = [m for m in history(endings) if m.subject == "octarm.v1.evt.endings"]

        told = [TasksEnded.model_validate_json(message.payload).events for message in messages]
        assert [len(events) for events in told] == [64, 36]
        assert [fact.seq for events in told for fact in events] == [e.seq for e in endings]
        assert len({message.msg_id for message in messages}) == 2
        assert history([]) == []

    def test_an_outbox_row_gives_back_what_was_put_in(self) -> None:
        messages = ready([ready_task(a_new_task())], shards=1)

        assert unpack(pack(messages)) == messages

    def test_leaves_large_results_out_of_events(self) -> None:
        assert result_for_event(b"x" * 70_000) == {}
        assert bytes(result_for_event(b"{}")["result"]) == b"{}"


class TestGathering:
    def test_makes_one_of_all_that_is_said_about_an_attempt(self) -> None:
        gathering = Gathering()
        placement = placed(TASK).placement
        assert placement is not None
        body = a_result(TASK)
        update = hot.AttemptUpdate(TASK, 1, "started", NOON)
        progress = hot.AttemptUpdate(TASK, 1, "progress", NOON, 0.5, "half")

        gathering.ended(msgspec.json.decode(body, type=hot.Result), body, "trace")
        gathering.placed([placement])
        gathering.updated(hot.AttemptsUpdated("one", "i-1", [update, progress]))
        gathering.ended(msgspec.json.decode(a_failure(TASK), type=hot.Result), a_failure(TASK))

        (news,) = gathering.all()
        assert (news.step, news.body, news.started_at) == (Step.ENDED, body, NOON)
        assert news.decision is not None
        assert news.progress == progress

    @pytest.mark.bad_input(10)
    def test_keeps_what_several_arms_say_of_one_attempt_apart(self) -> None:
        gathering = Gathering()
        for arm_id in ("liar", "one", "rogue", "one"):
            body = a_result(TASK, arm_id=arm_id)
            gathering.ended(msgspec.json.decode(body, type=hot.Result), body)
        for arm_id in ("one", "late"):
            placement = placed(TASK, arm_id=arm_id).placement
            assert placement is not None
            gathering.placed([placement])

        (believed,) = gathering.all()
        turns = gathering.contested()

        assert (believed.arm_id, believed.step) == ("one", Step.ENDED)
        assert [[item.arm_id for item in turn] for turn in turns] == [["late"], ["liar"], ["rogue"]]

    def test_what_other_arms_say_is_kept_apart_and_said_in_turn(self) -> None:
        gathering = Gathering()
        ids = sorted(new_id("tsk") for _ in range(2))
        for task_id in ids:
            for arm_id in ("one", "two", "three"):
                body = a_result(task_id, arm_id=arm_id)
                gathering.ended(msgspec.json.decode(body, type=hot.Result), body)

        turns = [[(news.task_id, news.arm_id) for news in turn] for turn in gathering.contested()]

        assert [news.arm_id for news in gathering.all()] == ["one", "one"]
        assert turns == [[(i, "three") for i in ids], [(i, "two") for i in ids]]

    def test_orders_by_task_so_that_rows_are_always_locked_alike(self) -> None:
        gathering = Gathering()
        ids = sorted(new_id("tsk") for _ in range(5))
        for task_id in reversed(ids):
            body = a_result(task_id)
            gathering.ended(msgspec.json.decode(body, type=hot.Result), body)

        assert [news.task_id for news in gathering.all()] == ids

    def test_knows_how_far_the_news_goes(self) -> None:
        assert placed(TASK).step is Step.PLACED
        assert started(TASK).step is Step.STARTED
        assert started(TASK).decision is None


def test_a_stray_is_a_duplicate_when_its_own_result_was_taken() -> None:
    def stray(outcome: str | None) -> Stray:
        return Stray(TASK, 1, TaskState.COMPLETED, 1, outcome)

    assert stray("success").is_duplicate
    assert not stray("lost").is_duplicate
    assert not stray(None).is_duplicate


def test_an_attempt_that_still_waits_is_nobodys() -> None:
    def stray(state: TaskState, attempt: int) -> Stray:
        return Stray(TASK, attempt, state, 2, None, arm_id=None)

    assert stray(TaskState.WAITING, 2).is_foreign_to("one")
    assert not stray(TaskState.WAITING, 1).is_foreign_to("one")
    assert not stray(TaskState.QUEUED, 2).is_foreign_to("one")


def test_an_attempt_of_another_arm_or_that_is_still_to_come_is_foreign() -> None:
    def stray(attempt: int, arm_id: str) -> Stray:
        return Stray(TASK, attempt, TaskState.RUNNING, 2, None, arm_id=arm_id)

    assert stray(3, "one").is_foreign_to("one")
    assert stray(2, "another").is_foreign_to("one")
    assert not stray(2, "one").is_foreign_to("one")


SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        (NOON + FARTHEST_START, NOON + FARTHEST_START),
        (NOON + SECOND, NOON + SECOND),
        (NOON, None),
        (NOON - START_GRACE, None),
    ],
)
def test_a_start_that_has_passed_not_long_ago_is_now(
    asked: datetime, given: datetime | None
) -> None:
    task = new_task(
        TaskSubmission(goal="g", not_before=asked),
        task_id=TASK,
        tenant="a",
        traceparent="",
        now=NOON,
    )

    assert task.not_before == given


@pytest.mark.parametrize(
    ("asked", "said"),
    [(NOON + FARTHEST_START + SECOND, "a year ahead"), (NOON - START_GRACE - SECOND, "the past")],
)
def test_a_start_long_ago_or_far_ahead_is_refused(asked: datetime, said: str) -> None:
    submission = TaskSubmission(goal="g", not_before=asked)

    with pytest.raises(InvalidRequest, match=said) as refused:
        new_task(submission, task_id=TASK, tenant="a", traceparent="", now=NOON)

    assert refused.value.code == "INVALID_PARAMETER"


@pytest.mark.parametrize(
    ("fields", "retries"),
    [
        ({}, 3),
        ({"retry": {"max_attempts": 2}}, 1),
        ({"budget": {"max_retries": 0}, "retry": {"max_attempts": 5}}, 0),
    ],
)
def test_the_smaller_of_what_budget_and_policy_allow_is_tried(
    fields: dict[str, Any], retries: int
) -> None:
    assert a_new_task(**fields).max_retries == retries
