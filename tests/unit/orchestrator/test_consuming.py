"""What becomes of each part of a message, whatever its neighbours are."""

import asyncio
from collections.abc import Sequence
from typing import cast

import msgspec
import pytest
from nats.aio.client import Client as NATS
from nats.aio.msg import Msg

from octarm.common.bus.delivery import Dead, Delivery
from octarm.common.bus.requests import read_reply
from octarm.common.storage import Batcher
from octarm.common.testing.fakes import NOON, FakeClock
from octarm.ledger.domain.changes import AcceptAnswer, Known
from octarm.ledger.domain.news import AttemptNews, Key
from octarm.models.errors import Backpressure, FieldError, InvalidRequest, OctarmError, Unavailable
from octarm.models.hot import SubmitTask
from octarm.models.ids import new_id
from octarm.models.queries import SubmitAnswers
from octarm.models.states import TaskState
from octarm.models.subjects import RESULTS_REPORTED
from octarm.orchestrator.intake import LOOKS, SubmitResponder, gathered, planned
from octarm.orchestrator.results import ResultsConsumer
from octarm.orchestrator.usecases.accept import AcceptTasks, Submitted
from tests.support.ledger import a_failure, a_result
from tests.support.wait import wait_until


class FakeDelivery:
    published_at = NOON
    stream_seq = 1

    def __init__(self, subject: str, data: bytes) -> None:
        self.subject = subject
        self.data = data
        self.headers: dict[str, str] = {}


def reported(*bodies: bytes) -> FakeDelivery:
    body = b'{"arm_id":"one","results":[%b]}' % b",".join(bodies)
    return FakeDelivery(RESULTS_REPORTED.at(arm_id="one"), body)


class TestResults:
    @pytest.mark.parametrize(
        "spoiled",
        [
            b'"status":"excellent"',
            b'"error":5',
            b'"error":{"code":"X"}',
            b'"error":{"detail":"%b"}' % (b"x" * 70_000),
            b'"output":"\xff"',
        ],
    )
    @pytest.mark.bad_input(10)
    async def test_a_bad_result_does_not_lose_the_others_of_its_bundle(
        self, spoiled: bytes
    ) -> None:
        recorded: list[AttemptNews] = []

        async def record(news: list[AttemptNews]) -> dict[Key, str]:
            recorded.extend(news)
            return {}

        good, bad, better = new_id("tsk"), new_id("tsk"), new_id("tsk")
        broken = a_failure(bad)[:-1] + b"," + spoiled + b"}"
        bundle = reported(a_result(good), broken, a_failure(better))

        (outcome,) = await ResultsConsumer(record, FakeClock())(cast(list[Delivery], [bundle]))

        assert isinstance(outcome, Dead)
        assert {news.task_id for news in recorded} == {good, better}


class FakeConnection:
    max_payload = 1024 * 1024
    is_connected = False

    def __init__(self) -> None:
        self.published: list[bytes] = []

    async def publish(self, _: str, body: bytes) -> None:
        self.published.append(body)


async def test_what_was_accepted_is_told_though_its_neighbours_found_nobody() -> None:
    known = Known(new_id("tsk"), TaskState.QUEUED, created=True)

    async def flush(_: list[Submitted]) -> list[AcceptAnswer]:
        return [known, Unavailable("Postgres is away")]

    nc = FakeConnection()
    body = {"tenant": "default", "submissions": [{"submission": {}}] * 2}
    message = Msg(cast(NATS, nc), "subject", "reply", msgspec.json.encode(body))

    SubmitResponder(cast(NATS, nc), Batcher(flush))._asked(message)
    await wait_until(lambda: nc.published)

    first, second = read_reply(nc.published[0], SubmitAnswers).answers
    assert first.accepted is not None
    assert first.accepted.task_id == known.task_id
    assert second.problem is not None
    assert second.problem.code == "SERVICE_UNAVAILABLE"


async def test_while_too_much_waits_a_request_is_refused_as_a_whole_and_unread() -> None:
    release = asyncio.Event()

    async def flush(items: list[Submitted]) -> list[AcceptAnswer]:
        await release.wait()
        return [Known(new_id("tsk"), TaskState.QUEUED, created=True) for _ in items]

    nc = FakeConnection()
    responder = SubmitResponder(cast(NATS, nc), Batcher(flush, max_items=1, max_waiting=1))
    body = msgspec.json.encode({"tenant": "default", "submissions": [{"submission": {}}] * 2})
    responder._asked(Msg(cast(NATS, nc), "subject", "reply", body))

    responder._asked(Msg(cast(NATS, nc), "subject", "reply", b"not so much as JSON"))
    await wait_until(lambda: nc.published)

    with pytest.raises(Backpressure, match="too much is waiting"):
        read_reply(nc.published[0], SubmitAnswers)
    release.set()
    await wait_until(lambda: len(nc.published) == 2)
    assert len(read_reply(nc.published[1], SubmitAnswers).answers) == 2


@pytest.mark.parametrize("looks", [3, 1_000_000])
async def test_fresh_tasks_let_ends_go_first_but_not_for_ever(looks: int) -> None:
    accepted_at_look, seen = [], 0

    def behind() -> bool:
        nonlocal seen
        seen += 1
        return seen <= looks

    async def accept(items: Sequence[Submitted]) -> list[AcceptAnswer]:
        accepted_at_look.append(seen)
        return [Known(new_id("tsk"), TaskState.QUEUED, created=True) for _ in items]

    accepting = gathered(cast(AcceptTasks, accept), behind)
    item = SubmitTask(submission=msgspec.Raw(b"{}"))
    answers = await accepting.put_many_nowait([Submitted("default", item)] * 2)

    assert all(isinstance(answer, Known) for answer in answers)
    assert accepted_at_look == [min(looks + 1, LOOKS)]


async def test_a_thousand_long_refusals_fit_into_one_answer() -> None:
    errors = [FieldError(field=f"extra_{n}", message="x" * 200) for n in range(100)]

    async def flush(items: list[Submitted]) -> list[OctarmError]:
        return [InvalidRequest("no", errors=errors)] * len(items)

    nc = FakeConnection()
    responder = SubmitResponder(cast(NATS, nc), Batcher(flush))
    body = {"tenant": "default", "submissions": [{"submission": {}}] * 1000}
    message = Msg(cast(NATS, nc), "subject", "reply", msgspec.json.encode(body))

    responder._asked(message)
    await wait_until(lambda: nc.published)

    assert len(nc.published[0]) < nc.max_payload
    assert nc.published[0].count(b"extra_0") == 1000


async def test_a_plan_is_accepted_whole_however_much_else_waits() -> None:
    groups: list[int] = []

    async def accept(items: list[Submitted], *, whole: bool = False) -> list[AcceptAnswer]:
        groups.append(len(items))
        return [Known(new_id("tsk"), TaskState.WAITING, created=True) for _ in items]

    nc, first = FakeConnection(), new_id("tsk")
    responder = SubmitResponder(
        cast(NATS, nc), Batcher(accept, max_items=200), planned(cast(AcceptTasks, accept))
    )
    plan = [{"task_id": first, "submission": {}}]
    plan += [{"task_id": new_id("tsk"), "submission": {"depends_on": [first]}}] * 499
    loose = [{"submission": {"depends_on": [first]}}] * 500
    for submissions in (plan, loose):
        body = msgspec.json.encode({"tenant": "default", "submissions": submissions})
        responder._asked(Msg(cast(NATS, nc), "subject", "reply", body))
    await wait_until(lambda: len(nc.published) == 2)

    assert sorted(groups) == [100, 200, 200, 500]
    assert all(len(read_reply(body, SubmitAnswers).answers) == 500 for body in nc.published)
