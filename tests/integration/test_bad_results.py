"""Results that nobody should believe, on a real ledger: kept, counted, and never an end."""

import json
from collections.abc import Callable
from random import Random
from typing import Any

import msgspec
import pytest

from octarm.common.bus.delivery import ACK, Dead, Outcome
from octarm.common.testing.fakes import FakeClock
from octarm.ledger.domain.changes import Known
from octarm.models.ids import new_id
from octarm.models.results import MAX_RESULT_BYTES
from octarm.models.subjects import (
    ATTEMPTS_UPDATED,
    RESULT,
    RESULTS_REPORTED,
    RUN_TASKS,
    Subject,
)
from octarm.orchestrator.results import ResultsConsumer
from octarm.orchestrator.usecases.record import FOREIGN, UNKNOWN, RecordNews
from tests.fuzz.mutate import spoiled
from tests.support.deliveries import a_delivery
from tests.support.hostile import TEXTS, places
from tests.support.ledger import (
    Ledger,
    a_command,
    a_failure,
    a_new_task,
    a_result,
    news,
    placed,
    started,
)

# Postgres stores neither of the first two as text, and the second not even as JSON.
UNSTORABLE = ("NUL", "half of a surrogate pair", "no character")
pytestmark = [pytest.mark.integration, pytest.mark.bad_input(10)]


async def revoke_nothing(_: object) -> None:
    return None


async def accepted(ledger: Ledger) -> str:
    (answer,), _ = await ledger.intake.accept([a_new_task()], lambda _: [])
    assert isinstance(answer, Known)
    return answer.task_id


async def report(ledger: Ledger, *messages: tuple[str, bytes]) -> list[Outcome]:
    """Hand (subject, body) pairs to the consumer as one batch."""
    consumer = ResultsConsumer(
        RecordNews(ledger.attempts, ledger.relay, revoke_nothing), FakeClock(), patience_s=0
    )
    return await consumer([a_delivery(subject, body) for subject, body in messages])


def by(arm_id: str, body: bytes) -> tuple[str, bytes]:
    return RESULT.at(arm_id=arm_id), body


def placement(task_id: str, arm_id: str) -> tuple[str, bytes]:
    return RUN_TASKS.at(arm_id=arm_id), a_command(task_id, arm_id=arm_id)


async def attempts(ledger: Ledger) -> list[tuple[object, ...]]:
    return await ledger.execute(
        "select attempt, arm_id, outcome, tokens_used from ledger.attempt order by task_id, attempt"
    )


async def kept(ledger: Ledger) -> tuple[int, int]:
    """How many results and late results there are."""
    ((results,),) = await ledger.execute("select count(*) from ledger.result")
    ((late,),) = await ledger.execute("select count(*) from ledger.late_result")
    return results, late


class TestAnotherArm:
    async def test_leaves_no_trace_in_the_attempt_it_claims(self, ledger: Ledger) -> None:
        task_id = await accepted(ledger)
        await ledger.attempts.record([placed(task_id), started(task_id)][1:], [0.0], lambda _: [])

        (outcome,) = await report(ledger, by("two", a_result(task_id, arm_id="two", tokens_used=9)))

        assert outcome == Dead(FOREIGN)
        assert await ledger.state_of(task_id) == ("running", 1)
        assert await attempts(ledger) == [(1, "one", None, 0)]
        assert await kept(ledger) == (0, 0)

    @pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 2, 0), (2, 0, 1)])
    async def test_is_not_believed_beside_the_placement_and_the_true_result(
        self, ledger: Ledger, order: tuple[int, ...]
    ) -> None:
        task_id = await accepted(ledger)
        messages = [
            placement(task_id, "one"),
            by("two", a_result(task_id, arm_id="two", output="forged")),
            by("one", a_result(task_id, arm_id="one", output="true")),
        ]

        outcomes = await report(ledger, *(messages[place] for place in order))

        assert [outcomes[order.index(place)] for place in range(3)] == [ACK, Dead(FOREIGN), ACK]
        assert await ledger.state_of(task_id) == ("completed", 1)
        ((body,),) = await ledger.execute("select body from ledger.result")
        assert body["output"] == "true"
        assert await attempts(ledger) == [(1, "one", "success", 0)]

    async def test_does_not_end_what_was_placed_in_the_same_batch(self, ledger: Ledger) -> None:
        task_id = await accepted(ledger)
        forged = by("two", a_result(task_id, arm_id="two"))

        outcomes = await report(ledger, forged, placement(task_id, "one"), forged)

        assert outcomes[-1] == Dead(FOREIGN)
        assert await ledger.state_of(task_id) == ("dispatched", 1)

    async def test_adds_nothing_to_a_task_that_has_ended(self, ledger: Ledger) -> None:
        task_id = await accepted(ledger)
        await report(ledger, by("one", a_result(task_id)))

        (outcome,) = await report(ledger, by("two", a_failure(task_id, arm_id="two")))

        assert outcome == Dead(FOREIGN)
        assert await ledger.state_of(task_id) == ("completed", 1)
        assert await kept(ledger) == (1, 0)

    async def test_in_its_name_on_ones_own_subject_is_dead(self, ledger: Ledger) -> None:
        task_id = await accepted(ledger)
        bundle = b'{"arm_id":"two","results":[%b]}' % a_result(task_id)

        alone, bundled = await report(
            ledger, by("two", a_result(task_id)), (RESULTS_REPORTED.at(arm_id="two"), bundle)
        )

        assert isinstance(alone, Dead)
        assert isinstance(bundled, Dead)
        assert await ledger.state_of(task_id) == ("queued", 1)

    @pytest.mark.bad_input(12)
    async def test_that_claims_it_in_its_beats_keeps_no_lease_alive(self, ledger: Ledger) -> None:
        task_id = await accepted(ledger)
        await ledger.attempts.record([started(task_id)], [0.0], lambda _: [])
        lease = "select lease_until from ledger.task"
        before = await ledger.execute(lease)

        await ledger.endings.renew([(task_id, 1, "two", 600.0)])
        kept = await ledger.execute(lease)
        await ledger.endings.renew([(task_id, 1, "one", 600.0)])

        assert kept == before
        assert await ledger.execute(lease) > before


class TestAnotherAttempt:
    async def test_that_was_never_opened_is_dead(self, ledger: Ledger) -> None:
        task_id = await accepted(ledger)

        (outcome,) = await report(ledger, by("one", a_result(task_id, 2)))

        assert outcome == Dead(FOREIGN)
        assert await ledger.state_of(task_id) == ("queued", 1)
        assert await attempts(ledger) == []
        assert await kept(ledger) == (0, 0)

    @pytest.mark.parametrize("forge", [a_result, a_failure])
    async def test_that_still_waits_for_its_time_is_dead(
        self, ledger: Ledger, forge: Callable[[str, int], bytes]
    ) -> None:
        task_id = await accepted(ledger)
        await report(ledger, by("one", a_failure(task_id)))

        (outcome,) = await report(ledger, by("one", forge(task_id, 2)))

        assert outcome == Dead(FOREIGN)
        assert await ledger.state_of(task_id) == ("waiting", 2)
        assert await attempts(ledger) == [(1, "one", "failure", 0)]
        assert await kept(ledger) == (0, 0)

    async def test_that_was_given_up_is_late_and_the_next_still_counts(
        self, ledger: Ledger
    ) -> None:
        task_id = await accepted(ledger)
        await report(ledger, by("one", a_failure(task_id)))
        late = a_result(task_id, 1, output="too late")
        await report(ledger, by("one", late), by("one", a_result(task_id, 3)))

        assert (await ledger.state_of(task_id))[1] == 2
        assert (await kept(ledger))[0] == 0


class TestNotAResult:
    async def test_is_dead_and_its_neighbours_count(self, ledger: Ledger) -> None:
        task_ids = [await accepted(ledger) for _ in range(2)]
        whole = json.loads(a_result(task_ids[0]))
        bad = [
            b"",
            b"null",
            b"[]",
            b"{",
            a_result(task_ids[0])[:-1],
            a_result(task_ids[0]).replace(b"hello", b"\xff\xfe"),
            a_result(task_ids[0], confidence=1.5),
            a_result(task_ids[0], execution_time_ms=-1),
            a_result(task_ids[0], tokens_used=2**63),
            a_result(task_ids[0], cost_dollars=1e300),
            a_result(task_ids[0], status="done"),
            a_result(task_ids[0], status="failure"),
            a_result(task_ids[0], error={"title": "x"}, status="success"),
            a_result(task_ids[0], attempt=0),
            a_result("tsk_*"),
            a_result(task_ids[0], output="x" * MAX_RESULT_BYTES),
            b'{"output":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
            msgspec.json.encode({**whole, "provenance": None}),
            msgspec.json.encode({k: v for k, v in whole.items() if k != "provenance"}),
        ]

        *outcomes, good = await report(
            ledger, *(by("one", body) for body in bad), by("one", a_result(task_ids[1]))
        )

        assert [isinstance(outcome, Dead) for outcome in outcomes] == [True] * len(bad)
        assert good is ACK
        assert [(await ledger.state_of(t))[0] for t in task_ids] == ["queued", "completed"]

    async def test_whatever_is_wrong_with_it_the_ledger_goes_on(self, ledger: Ledger) -> None:
        """What is taken can be stored: Postgres reads JSON by rules of its own."""
        random = Random(11)

        for number in range(300):
            make = a_failure if number % 3 == 0 else a_result
            body = spoiled(make(await accepted(ledger)), random)
            assert body is not None
            await report(ledger, by("one", body))

        good = await accepted(ledger)
        assert await report(ledger, by("one", a_result(good))) == [ACK]

    @pytest.mark.parametrize(
        "subject", [RESULT, RESULTS_REPORTED, ATTEMPTS_UPDATED, RUN_TASKS], ids=lambda s: s.template
    )
    async def test_whatever_text_is_in_it_the_ledger_goes_on(
        self, ledger: Ledger, subject: Subject[Any]
    ) -> None:
        schema = subject.message.model_json_schema()
        taken = set()

        for status in ("success", "failure"):
            known = {"arm_id": "one", "instance_id": "i-1", "status": status}
            for number, (where, _) in enumerate(places(schema, schema["$defs"], known)):
                known["task_id"] = await accepted(ledger)
                build = list(places(schema, schema["$defs"], known))[number][1]
                bodies = [json.dumps(build(TEXTS[name])).encode() for name in UNSTORABLE]
                outcomes = await report(
                    ledger, *((subject.at(arm_id="one"), body) for body in bodies)
                )
                taken |= {where} if ACK in outcomes else set()

        good = await accepted(ledger)
        assert await report(ledger, by("one", a_result(good))) == [ACK]
        assert taken

    async def test_of_a_task_that_nobody_accepted_is_dead(self, ledger: Ledger) -> None:
        outcomes = await report(
            ledger, *(by("one", a_result(new_id("tsk"), attempt)) for attempt in (1, 7))
        )

        assert outcomes == [Dead(UNKNOWN)] * 2
        assert await attempts(ledger) == []


@pytest.mark.bad_input(11)
class TestAgain:
    async def test_a_thousand_copies_in_any_shape_are_one_end(self, ledger: Ledger) -> None:
        task_id = await accepted(ledger)
        body = a_result(task_id)
        bundle = (
            RESULTS_REPORTED.at(arm_id="one"),
            b'{"arm_id":"one","results":[' + b",".join([body] * 64) + b"]}",
        )

        for _ in range(5):
            outcomes = await report(ledger, *[by("one", body)] * 72, bundle, bundle)
            assert outcomes == [ACK] * 74

        assert await ledger.state_of(task_id) == ("completed", 1)
        assert await kept(ledger) == (1, 0)

    async def test_a_start_and_a_placement_after_the_result_change_nothing(
        self, ledger: Ledger
    ) -> None:
        task_id = await accepted(ledger)

        await report(ledger, by("one", a_result(task_id)))
        for item in (started(task_id), placed(task_id)):
            await ledger.attempts.record([item], [0.0], lambda _: [])
        await ledger.attempts.record(news(a_result(task_id)), [0.0], lambda _: [])

        assert await ledger.state_of(task_id) == ("completed", 1)
        assert await kept(ledger) == (1, 0)
