"""What the orchestrator makes of messages, without a bus."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import pytest

from octarm.common.bus.delivery import ACK, HELD, Dead, Retry
from octarm.common.storage import Batcher
from octarm.common.testing.fakes import FakeClock
from octarm.ledger.domain.changes import AcceptAnswer, Known
from octarm.ledger.domain.news import AttemptNews, Key, Step
from octarm.models.errors import Conflict, InvalidRequest, Unavailable
from octarm.models.ids import new_id
from octarm.models.states import TaskState
from octarm.models.subjects import (
    ATTEMPTS_UPDATED,
    LEAD_SHARD,
    RESULT,
    RESULTS_REPORTED,
    RUN_TASKS,
    SUBMIT_TASK,
)
from octarm.orchestrator.intake import IntakeConsumer
from octarm.orchestrator.results import ResultsConsumer
from octarm.orchestrator.usecases.accept import Submitted
from octarm.orchestrator.usecases.record import UNKNOWN
from tests.support.deliveries import a_delivery
from tests.support.ledger import a_command, a_result

NOON = "2026-11-21T12:00:00Z"


@dataclass
class RecordingLedger:
    refused: dict[Key, str] = field(default_factory=dict)
    news: list[AttemptNews] = field(default_factory=list)

    async def __call__(self, news: list[AttemptNews]) -> dict[Key, str]:
        self.news += news
        return self.refused


class TestResults:
    async def test_one_batch_is_one_piece_of_news_for_each_attempt(self) -> None:
        ledger = RecordingLedger()
        one, two, three = sorted(new_id("tsk") for _ in range(3))
        traced = f"00-{'a' * 32}-{'b' * 16}-01"
        bundle = b'{"arm_id":"one","results":[%b,%b],"traceparents":["","%b"]}' % (
            *(a_result(two), a_result(three)),
            traced.encode(),
        )
        start = {"task_id": one, "attempt": 1, "kind": "started", "at": NOON}
        updates = {"arm_id": "one", "instance_id": "i-1", "updates": [start]}

        outcomes = await ResultsConsumer(ledger, FakeClock())(
            [
                a_delivery(RESULTS_REPORTED.at(arm_id="one"), bundle),
                a_delivery(LEAD_SHARD.at(shard=0), b"{}"),
                a_delivery(RUN_TASKS.at(arm_id="one"), a_command(one)),
                a_delivery(ATTEMPTS_UPDATED.at(arm_id="one"), msgspec.json.encode(updates)),
                a_delivery(RESULT.at(arm_id="one"), a_result(one), traceparent=traced),
                a_delivery(RUN_TASKS.at(arm_id="two"), a_command(one)),
            ]
        )

        *rest, foreign = outcomes
        assert rest == [ACK, ACK, HELD, ACK, ACK]
        assert isinstance(foreign, Dead)
        assert [news.task_id for news in ledger.news] == [one, two, three]
        assert {news.step for news in ledger.news} == {Step.ENDED}
        assert [news.traceparent for news in ledger.news] == [traced, "", traced]
        assert ledger.news[0].placement is not None

    async def test_a_header_that_is_no_traceparent_is_none(self) -> None:
        ledger, one = RecordingLedger(), new_id("tsk")
        header = f'00-{"a" * 32}-{"b" * 14}"}}-01'

        (outcome,) = await ResultsConsumer(ledger, FakeClock())(
            [a_delivery(RESULT.at(arm_id="one"), a_result(one), traceparent=header)]
        )

        assert outcome is ACK
        assert [news.traceparent for news in ledger.news] == [""]

    @pytest.mark.bad_input(10)
    async def test_what_is_not_understood_is_dead_and_the_rest_is_recorded(self) -> None:
        ledger = RecordingLedger()
        good = new_id("tsk")

        bad, foreign, fine = await ResultsConsumer(ledger, FakeClock())(
            [
                a_delivery(RESULT.at(arm_id="one"), b"{"),
                a_delivery(RESULT.at(arm_id="two"), a_result(new_id("tsk"), arm_id="one")),
                a_delivery(RESULT.at(arm_id="one"), a_result(good)),
            ]
        )

        assert isinstance(bad, Dead)
        assert isinstance(foreign, Dead)
        assert "own arm" in foreign.reason
        assert fine is ACK
        assert [news.task_id for news in ledger.news] == [good]

    @pytest.mark.bad_input(10)
    async def test_a_result_of_a_task_that_nobody_accepted_is_dead(self) -> None:
        task_id = new_id("tsk")
        ledger = RecordingLedger({(task_id, 1): UNKNOWN})

        (outcome,) = await ResultsConsumer(ledger, FakeClock())(
            [a_delivery(RESULT.at(arm_id="one"), a_result(task_id))]
        )

        assert outcome == Dead(UNKNOWN)


def intake(answer: AcceptAnswer, seen: list[Submitted]) -> IntakeConsumer:
    async def accept(group: list[Submitted]) -> Sequence[AcceptAnswer]:
        seen.extend(group)
        return [answer] * len(group)

    return IntakeConsumer(Batcher(accept))


class TestIntake:
    async def test_accepts_for_the_tenant_of_the_subject(self) -> None:
        seen: list[Submitted] = []
        known = Known(new_id("tsk"), TaskState.QUEUED, created=True)
        body = msgspec.json.encode({"submission": {"goal": "g"}})

        outcomes = await intake(known, seen)([a_delivery(SUBMIT_TASK.at(tenant="acme"), body)])

        assert outcomes == [ACK]
        assert (seen[0].tenant, seen[0].origin) == ("acme", f"{SUBMIT_TASK.at(tenant='acme')}/17")

    async def test_buries_what_can_never_be_accepted(self) -> None:
        refusals = [Conflict("another body"), InvalidRequest("no goal")]
        body = msgspec.json.encode({"submission": {}})
        for refusal in refusals:
            (outcome,) = await intake(refusal, [])(
                [a_delivery(SUBMIT_TASK.at(tenant="acme"), body)]
            )
            assert outcome == Dead(f"{refusal.code}: {refusal.message}")

    async def test_asks_for_another_delivery_while_the_ledger_is_away(self) -> None:
        body = msgspec.json.encode({"submission": {}})

        outcomes = await intake(Unavailable("Postgres is away", retry_after_s=3), [])(
            [a_delivery(SUBMIT_TASK.at(tenant="acme"), body)]
        )

        assert outcomes == [Retry(3.0)]

    @pytest.mark.bad_input(26)
    async def test_buries_garbage_and_tenants_that_are_no_names(self) -> None:
        seen: list[Submitted] = []
        known = Known(new_id("tsk"), TaskState.QUEUED, created=True)

        outcomes = await intake(known, seen)(
            [
                a_delivery(SUBMIT_TASK.at(tenant="acme"), b"[]"),
                a_delivery(SUBMIT_TASK.at(tenant="ACME"), b'{"submission":{}}'),
            ]
        )

        assert all(isinstance(outcome, Dead) for outcome in outcomes)
        assert seen == []
