"""How submissions are cut into requests."""

from typing import Any, cast

import pytest
from nats.aio.client import Client
from nats.errors import NoRespondersError
from pydantic import BaseModel

from octarm.clients.orchestrator import ENVELOPE_BYTES, MAX_STATES, OrchestratorClient
from octarm.models.commands import SubmitTask
from octarm.models.contracts import TaskSubmission
from octarm.models.ids import new_id
from octarm.models.queries import (
    Accepted,
    GetStates,
    Outcome,
    Reply,
    StatesFound,
    SubmitAnswer,
    SubmitAnswers,
    SubmitTasks,
)
from octarm.models.states import TaskState


class _Message:
    def __init__(self, answer: BaseModel) -> None:
        self.data = b'{"ok":' + answer.model_dump_json().encode() + b"}"


class FakeNats:
    """Answers submissions and states at once; keeps what was asked."""

    def __init__(self, max_payload: int = 1024 * 1024) -> None:
        self.max_payload = max_payload
        self.sizes: list[int] = []
        self.asked: list[int] = []
        self.silent_from = 10**9

    async def request(self, subject: str, body: bytes, **_: Any) -> _Message:
        if len(self.asked) >= self.silent_from:
            raise NoRespondersError
        self.sizes.append(len(body))
        return self._submit(body) if "submit" in subject else self._states(body)

    def _submit(self, body: bytes) -> _Message:
        tasks = SubmitTasks.model_validate_json(body).submissions
        self.asked.append(len(tasks))
        made = [
            Accepted(task_id=new_id("tsk"), state=TaskState.QUEUED, created=True) for _ in tasks
        ]
        return _Message(SubmitAnswers(answers=[SubmitAnswer(accepted=task) for task in made]))

    def _states(self, body: bytes) -> _Message:
        ids = GetStates.model_validate_json(body).task_ids
        self.asked.append(len(ids))
        return _Message(
            StatesFound(outcomes=[Outcome(task_id=one, state=TaskState.RUNNING) for one in ids])
        )


def client_of(nats: FakeNats) -> OrchestratorClient:
    """The client over a fake connection."""
    return OrchestratorClient(cast(Client, nats))


def tasks(count: int, chars: int = 10) -> list[SubmitTask]:
    """So many tasks with goals of so many characters."""
    return [SubmitTask(submission=TaskSubmission(goal="x" * chars)) for _ in range(count)]


class TestSubmitMany:
    async def test_asks_for_nothing_when_there_is_nothing(self) -> None:
        nats = FakeNats()

        assert await client_of(nats).submit_many("default", []) == []
        assert nats.asked == []

    async def test_puts_at_most_a_thousand_into_a_request(self) -> None:
        nats = FakeNats()

        answers = await client_of(nats).submit_many("default", tasks(2001))

        assert nats.asked == [1000, 1000, 1]
        assert len({answer.accepted.task_id for answer in answers if answer.accepted}) == 2001

    async def test_keeps_every_request_below_the_servers_limit(self) -> None:
        nats = FakeNats(max_payload=64 * 1024)

        answers = await client_of(nats).submit_many("default", tasks(40, chars=9000))

        assert len(answers) == 40
        assert len(nats.asked) > 5
        assert max(nats.sizes) <= nats.max_payload

    async def test_answers_a_task_that_fits_no_request_in_its_place(self) -> None:
        nats = FakeNats(max_payload=ENVELOPE_BYTES + 2000)
        mixed = [*tasks(1), *tasks(1, chars=3000), *tasks(1)]

        answers = await client_of(nats).submit_many("default", mixed)

        assert [answer.problem.code if answer.problem else "" for answer in answers] == [
            "",
            "PAYLOAD_TOO_LARGE",
            "",
        ]

    async def test_gives_the_problem_of_a_request_to_each_of_its_tasks(self) -> None:
        nats = FakeNats()
        nats.silent_from = 1

        answers = await client_of(nats).submit_many("default", tasks(1002))

        codes = [answer.problem.code if answer.problem else "" for answer in answers]
        assert codes == [""] * 1000 + ["SERVICE_UNAVAILABLE"] * 2


class TestStates:
    @pytest.mark.parametrize(("count", "asked"), [(0, []), (1, [1]), (MAX_STATES + 1, [1000, 1])])
    async def test_asks_for_a_thousand_at_a_time(self, count: int, asked: list[int]) -> None:
        nats = FakeNats()
        ids = [new_id("tsk") for _ in range(count)]

        found = await client_of(nats).states("default", ids)

        assert list(found) == ids
        assert nats.asked == asked


def test_the_reply_envelope_is_the_one_of_the_models() -> None:
    answer = SubmitAnswers(answers=[])

    assert Reply[SubmitAnswers].model_validate_json(_Message(answer).data).ok == answer
