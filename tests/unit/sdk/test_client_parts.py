"""The client's parts without a bus: submissions, fates, settings."""

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from octarm.common.bus.task_history import events_subject
from octarm.models.contracts import ResourceBudget, TaskSubmission
from octarm.models.errors import (
    Backpressure,
    InvalidRequest,
    OctarmError,
    TimedOut,
    Unavailable,
)
from octarm.models.ids import new_id
from octarm.models.queries import Outcome, SubmitTasks
from octarm.models.states import TaskState
from octarm.models.subjects import NotASubjectToken
from octarm.sdk.endings import Ending, endings_in
from octarm.sdk.fates import Fate, Fates, Finishing
from octarm.sdk.settings import ClientSettings, find_nats
from octarm.sdk.submissions import Encoded, Keys, encode, read_answers, request_body, requests
from octarm.sdk.submitter import Submitter
from tests.support.client_stage import a_result
from tests.support.wait import wait_until


class TestEncoding:
    def test_says_the_same_as_the_model(self) -> None:
        deadline = datetime(2027, 1, 1, tzinfo=UTC)
        budget = ResourceBudget(max_tokens=5)
        model = TaskSubmission(goal="count", deadline=deadline, budget=budget, idempotency_key="k")
        given = {
            "goal": "count",
            "deadline": deadline,
            "budget": budget,
            "idempotency_key": "k",
            "required_capabilities": frozenset(),
        }
        listed = [encode(0, model, Keys()), encode(1, given, Keys())]

        request = SubmitTasks.model_validate_json(request_body("acme", listed))

        assert [one.submission for one in request.submissions] == [model, model]

    def test_every_submission_has_a_key_of_its_own(self) -> None:
        keys = Keys()
        bodies = [json.loads(encode(n, {"goal": "x"}, keys).body) for n in range(3)]

        assert len({body["submission"]["idempotency_key"] for body in bodies}) == 3

    def test_what_is_not_json_is_named(self) -> None:
        with pytest.raises(InvalidRequest, match="submission 4"):
            encode(4, {"goal": object()}, Keys())

    def test_cuts_by_number_and_by_size(self) -> None:
        submissions = [Encoded(n, b"x" * size) for n, size in enumerate((10, 10, 10, 99, 10))]

        groups = list(requests(submissions, max_items=2, max_bytes=50))

        assert [[one.index for one in group] for group in groups] == [[0, 1], [2], [3], [4]]
        assert list(requests([])) == []

    @pytest.mark.parametrize(
        "reply", [b"no json", b'{"ok":{"answers":[]}}', b'{"problem":null}', b"{}"]
    )
    def test_an_answer_that_makes_no_sense_is_an_error(self, reply: bytes) -> None:
        with pytest.raises(OctarmError):
            read_answers(reply, 1)

    def test_an_empty_answer_is_an_error_of_its_submission(self) -> None:
        (answer,) = read_answers(b'{"ok":{"answers":[{}]}}', 1)

        assert isinstance(answer, OctarmError)


class TestSubmitter:
    async def test_the_last_refusal_is_the_answer_when_the_time_is_up(self) -> None:
        async def refuse(body: bytes, timeout_s: float) -> bytes:
            raise Backpressure("full")

        submitter = Submitter("acme", refuse, Fates(FakeLedger(), "acme").follow)

        (answer,) = await submitter.submit([Encoded(0, b"{}")], 0.15)
        (late,) = await submitter.submit([Encoded(0, b"{}")], 0.0)

        assert isinstance(answer, Backpressure)
        assert isinstance(late, TimedOut)


class FakeLedger:
    def __init__(self, *outcomes: Outcome) -> None:
        self.outcomes = {outcome.task_id: outcome for outcome in outcomes}
        self.asked: list[int] = []
        self.away = False

    async def states(self, tenant: str, task_ids: Sequence[str]) -> dict[str, Outcome]:
        self.asked.append(len(task_ids))
        if self.away:
            raise Unavailable("away")
        return {one: self.outcomes[one] for one in task_ids if one in self.outcomes}


class ComingIn:
    """An ending of somebody's task at every look for interruptions, until it `ends`."""

    def __init__(self, fates: Fates) -> None:
        self.fates = fates
        self.looks = 0
        self.interruptions = 0
        self.ends = False

    def __call__(self) -> int:
        self.looks += 1
        if not self.ends:
            self.fates.heard(Ending("task.completed", new_id("tsk")), TaskState.COMPLETED)
        return self.interruptions


@pytest.fixture
def all_young(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make nothing old enough to be asked for while endings come in."""
    monkeypatch.setattr("octarm.sdk.fates.PATIENCE", 1_000_000)


def an_event(task_id: str, kind: str = "task.completed", **more: object) -> dict[str, object]:
    return {"type": kind, "event_id": "e", "seq": 3, "task_id": task_id, **more}


def a_bundle(task_id: str, kind: str = "task.completed", **more: object) -> bytes:
    return json.dumps({"events": [an_event(task_id, kind, **more)]}).encode()


class TestFates:
    async def test_sweeps_up_what_nobody_told(self) -> None:
        ended, live = new_id("tsk"), new_id("tsk")
        result = a_result(ended)
        ledger = FakeLedger(
            Outcome(task_id=ended, state=TaskState.COMPLETED, result=result),
            Outcome(task_id=live, state=TaskState.RUNNING),
        )
        ledger.away = True
        fates = Fates(ledger, "acme")
        first, second = (fates.follow(one, TaskState.QUEUED) for one in (ended, live))
        sweeping = asyncio.create_task(fates.run(0.01))
        await wait_until(lambda: ledger.asked)
        ledger.away = False
        await wait_until(lambda: first.ended)
        await wait_until(lambda: second.state is TaskState.RUNNING)
        sweeping.cancel()

        assert first.outcome() == result
        assert not second.ended

    async def test_asks_for_the_oldest_only_while_endings_come_in(self) -> None:
        ids = [new_id("tsk") for _ in range(1500)]
        ledger = FakeLedger(*(Outcome(task_id=one, state=TaskState.QUEUED) for one in ids))
        fates = Fates(ledger, "acme")
        for one in ids:
            fates.follow(one, TaskState.QUEUED).since -= 60
        fates.heard(Ending("task.completed", new_id("tsk")), TaskState.COMPLETED)

        sweeping = asyncio.create_task(fates.run(0.01))
        await wait_until(lambda: len(ledger.asked) >= 3)
        sweeping.cancel()

        assert ledger.asked[:3] == [1000, 1000, 500]

    @pytest.mark.usefixtures("all_young")
    async def test_asks_for_nothing_young_while_endings_come_in(self) -> None:
        task_id = new_id("tsk")
        ledger = FakeLedger(Outcome(task_id=task_id, state=TaskState.RUNNING))
        fates = Fates(ledger, "acme")
        fates.follow(task_id, TaskState.QUEUED).since -= 60
        coming_in = ComingIn(fates)
        sweeping = asyncio.create_task(fates.run(0.005, coming_in))

        await wait_until(lambda: coming_in.looks > 10)
        young = list(ledger.asked)
        coming_in.ends = True
        await wait_until(lambda: ledger.asked)
        sweeping.cancel()

        assert young == []

    @pytest.mark.usefixtures("all_young")
    async def test_asks_for_all_after_an_interruption(self) -> None:
        ids = [new_id("tsk") for _ in range(1500)]
        ledger = FakeLedger(*(Outcome(task_id=one, state=TaskState.QUEUED) for one in ids))
        fates = Fates(ledger, "acme")
        for one in ids:
            fates.follow(one, TaskState.QUEUED).since -= 60
        coming_in = ComingIn(fates)
        sweeping = asyncio.create_task(fates.run(0.005, coming_in))

        await wait_until(lambda: coming_in.looks > 10)
        before = list(ledger.asked)
        coming_in.interruptions = 1
        await wait_until(lambda: len(ledger.asked) >= 2)
        sweeping.cancel()

        assert before == []
        assert ledger.asked[:2] == [1000, 500]

    def test_the_same_unfinished_task_has_one_fate(self) -> None:
        fates = Fates(FakeLedger(), "acme")
        task_id = new_id("tsk")

        assert fates.follow(task_id, TaskState.QUEUED) is fates.follow(task_id, TaskState.QUEUED)

    async def test_a_failure_without_a_problem_still_says_how_it_ended(self) -> None:
        one, two = new_id("tsk"), new_id("tsk")
        ledger = FakeLedger(
            Outcome(task_id=one, state=TaskState.TIMED_OUT),
            Outcome(task_id=two, state=TaskState.CANCELLED),
        )
        fates = Fates(ledger, "acme")
        told = [fates.follow(task_id, TaskState.QUEUED) for task_id in (one, two)]
        calls: list[str] = []
        told[0].when_ended(lambda _: calls.append("ended"))
        await fates.ask(told)
        told[0].when_ended(lambda _: calls.append("at once"))

        assert [str(fate.error) for fate in told] == [
            "the task ended as timed_out",
            "the task was cancelled",
        ]
        assert calls == ["ended", "at once"]


class TestFate:
    def test_reads_the_result_when_asked_and_keeps_only_its_bytes(self) -> None:
        task_id = new_id("tsk")
        fate = Fate(task_id, TaskState.QUEUED)
        result = a_result(task_id)
        (ending,) = endings_in(a_bundle(task_id, result=result.model_dump(mode="json")))

        fate.end_by_event(ending, TaskState.COMPLETED)

        assert fate.outcome() == result
        assert fate.outcome() is not fate.outcome()

    def test_says_how_a_task_ended_that_brought_a_problem(self) -> None:
        task_id = new_id("tsk")
        fate = Fate(task_id, TaskState.QUEUED)
        problem = TimedOut("too late").problem().model_dump(mode="json")
        (ending,) = endings_in(a_bundle(task_id, "task.timed_out", error=problem))

        fate.end_by_event(ending, TaskState.TIMED_OUT)

        assert str(fate.outcome()) == "too late"
        assert fate.error is not None
        assert fate.error.code == "DEADLINE_EXCEEDED"

    def test_has_to_be_asked_for_when_its_result_was_too_large(self) -> None:
        task_id = new_id("tsk")
        fate = Fate(task_id, TaskState.QUEUED)
        (ending,) = endings_in(a_bundle(task_id))

        fate.end_by_event(ending, TaskState.COMPLETED)

        assert fate.outcome() is None

    def test_tells_everybody_who_still_wants_to_know(self) -> None:
        fate = Fate(new_id("tsk"), TaskState.QUEUED)
        told: list[str] = []
        tells = [lambda _, n=n: told.append(n) for n in ("first", "second", "third")]
        for tell in tells:
            fate.when_ended(tell)
        fate.forget(tells[1])

        fate.end_unknown()
        fate.forget(tells[0])

        assert told == ["first", "third"]

    def test_an_event_that_ends_nothing_has_no_state(self) -> None:
        moved, ended = endings_in(
            json.dumps(
                {"events": [an_event("t", "task.retried"), an_event("t", "task.cancelled")]}
            ).encode()
        )

        assert (moved.state, ended.state) == (None, TaskState.CANCELLED)


async def test_those_who_finished_come_in_the_order_of_their_ends() -> None:
    finishing = Finishing()
    fates = [Fate(new_id("tsk"), TaskState.QUEUED) for _ in range(3)]
    for fate in fates:
        fate.when_ended(finishing.tell)
    waiting = asyncio.create_task(finishing.next(None))
    await asyncio.sleep(0)

    fates[2].end_unknown()
    fates[0].end_unknown()

    assert [await waiting, await finishing.next(None)] == [fates[2], fates[0]]
    with pytest.raises(TimeoutError):
        await finishing.next(asyncio.get_running_loop().time())


class TestFindingNats:
    def test_what_is_set_wins(self, tmp_path: Path) -> None:
        assert find_nats(ClientSettings(nats_url="nats://here:1", data=tmp_path)) == "nats://here:1"

    def test_the_embedded_stack_says_where_it_is(self, tmp_path: Path) -> None:
        (tmp_path / "up.json").write_text('{"nats": "nats://there:1"}')

        assert find_nats(ClientSettings(nats_url="", data=tmp_path)) == "nats://there:1"

    @pytest.mark.parametrize("content", ["", "[]", "{}", '{"urls": 3}'])
    def test_neither_is_said_in_one_line(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "up.json").write_text(content)

        with pytest.raises(Unavailable, match="no NATS is known"):
            find_nats(ClientSettings(nats_url="", data=tmp_path))


def test_nothing_but_a_token_enters_a_filter() -> None:
    with pytest.raises(NotASubjectToken):
        events_subject("acme.>")
