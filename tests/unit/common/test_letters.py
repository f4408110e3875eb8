"""What a dead letter keeps, where it may go back to, and what is not shown of it."""

import json
import os

import pytest

from octarm.common.bus.letters import first_place, payload_of, redriven
from octarm.common.bus.publisher import Outgoing
from octarm.common.bus.quarantine import suspicion
from octarm.common.bus.wire import read_headers
from octarm.models.ids import new_id
from octarm.models.subjects import PLACE_TASKS, RESULT, RUN_TASKS
from tests.support.letters import a_delivery, a_stored_letter

MIB = 1024 * 1024


def _redriven(stored: object) -> Outgoing:
    message = redriven(stored.letter, stored.body)  # type: ignore[attr-defined]
    assert isinstance(message, Outgoing), message
    return message


def _headers(message: Outgoing) -> dict[str, str]:
    return read_headers(b"NATS/1.0\r\n" + message.head + b"\r\n")


class TestKeeping:
    def test_keeps_the_payload_and_headers_as_they_came(self) -> None:
        body = b'{"goal": "\xc3\xa4 \x00"}\xff'
        stored = a_stored_letter(body, headers={"Nats-Msg-Id": "m", "traceparent": "00-a-b-01"})

        message = _redriven(stored)

        assert message.payload == body
        assert _headers(message)["traceparent"] == "00-a-b-01"

    def test_squeezes_what_does_not_fit_beside_the_letter(self) -> None:
        body = (b'{"goal": "' + b"long " * MIB)[:MIB]

        stored = a_stored_letter(body)

        assert (stored.letter.kept, payload_of(stored.letter, stored.body)) == ("zlib", body)

    def test_keeps_the_beginning_of_what_fits_in_no_way(self) -> None:
        stored = a_stored_letter(os.urandom(MIB))

        assert (stored.letter.kept, stored.body) == ("cut", b"")
        assert stored.letter.size_bytes == MIB
        assert redriven(stored.letter, stored.body) == "its payload was too large to be kept whole"

    def test_a_spoiled_squeezed_payload_is_none(self) -> None:
        stored = a_stored_letter(b"x" * MIB)

        assert payload_of(stored.letter, b"nonsense") is None
        assert payload_of(stored.letter, stored.body[:20]) is None

    def test_bounds_reason_and_headers_and_keeps_them_printable(self) -> None:
        many = {f"x-{number}": "v" * 5000 for number in range(100)}

        letter = a_stored_letter(reason="\ud800" + "r" * 5000, headers=many).letter

        assert (len(letter.reason), len(letter.headers)) == (1000, 32)
        assert letter.reason.startswith("?r")


class TestClues:
    def test_a_submission_is_of_its_subjects_tenant(self) -> None:
        assert a_stored_letter(b"\xff").letter.tenant == "acme"

    def test_a_result_tells_task_and_attempt(self) -> None:
        task_id = new_id("tsk")
        body = json.dumps({"task_id": task_id, "attempt": 3, "status": 1}).encode()

        letter = a_stored_letter(body, subject=RESULT.at(arm_id="echo")).letter

        assert (letter.task_id, letter.attempt, letter.tenant) == (task_id, 3, "")

    def test_a_run_command_tells_its_tenant(self) -> None:
        body = json.dumps({"task_id": new_id("tsk"), "attempt": 1, "task": {"tenant": "acme"}})

        letter = a_stored_letter(body.encode(), subject=RUN_TASKS.at(arm_id="echo")).letter

        assert letter.tenant == "acme"

    def test_a_message_of_several_tasks_names_none(self) -> None:
        tasks = [
            {"task_id": new_id("tsk"), "attempt": 1, "tenant": tenant} for tenant in ("a", "b")
        ]
        body = json.dumps({"tasks": tasks}).encode()

        letter = a_stored_letter(body, subject=PLACE_TASKS.at(shard=0)).letter

        assert (letter.task_id, letter.attempt, letter.tenant) == ("", 0, "")

    def test_believes_nothing_that_is_no_id(self) -> None:
        body = json.dumps({"task_id": "x>", "attempt": 1, "tenant": "A B"}).encode()

        letter = a_stored_letter(body, subject=RESULT.at(arm_id="echo")).letter

        assert (letter.task_id, letter.tenant) == ("", "")


class TestRedriving:
    def test_twice_has_the_same_msg_id_and_another_letter_another(self) -> None:
        one, again, other = (a_stored_letter(seq=seq, deliveries=seq) for seq in (1, 2, 3))
        elsewhere = a_stored_letter(origin="memory-remember-task")

        assert _redriven(one).msg_id == _redriven(again).msg_id == _redriven(other).msg_id
        assert elsewhere.letter.stream_seq == one.letter.stream_seq
        assert isinstance(redriven(elsewhere.letter, elsewhere.body), str)

    def test_a_message_that_dies_again_still_knows_its_first_place(self) -> None:
        delivery = a_delivery(seq=42)
        message = _redriven(a_stored_letter(seq=1))
        second = a_stored_letter(seq=2, headers=_headers(message) | {"Nats-Msg-Id": "x"})

        third = _redriven(second)

        assert second.letter.redrives == 1
        again = a_delivery(headers=_headers(third), seq=99)
        assert first_place(again) == first_place(delivery) == (42, delivery.published_at)

    @pytest.mark.parametrize(
        "headers",
        [
            {"Octarm-First-Seq": "seven", "Octarm-First-At": "2026-11-21T12:00:00Z"},
            {"Octarm-First-Seq": "7"},
            {"Octarm-First-Seq": "7", "Octarm-First-At": "yesterday"},
        ],
    )
    def test_a_first_place_that_makes_no_sense_is_ignored(self, headers: dict[str, str]) -> None:
        delivery = a_delivery(headers=headers, seq=5)

        assert first_place(delivery) == (5, delivery.published_at)

    @pytest.mark.parametrize(
        ("origin", "subject", "may"),
        [
            ("orchestrator-accept-task", "octarm.v1.cmd.task.submit.acme", True),
            ("orchestrator-finish-task", "octarm.v1.evt.result.echo", True),
            ("scheduler-place-task-3", "octarm.v1.cmd.task.place.3", True),
            ("arm-run-echo", "octarm.v1.cmd.arm.run.echo", True),
            ("memory-remember-task", "octarm.v1.evt.endings", True),
            ("arm-run-echo", "octarm.v1.cmd.arm.run.other", False),
            ("scheduler-place-task-3", "octarm.v1.cmd.task.place.4", False),
            ("orchestrator-accept-task", "octarm.v1.cmd.arm.run.echo", False),
            ("orchestrator-accept-task", "octarm.v1.cmd.task.submit.a.b", False),
            ("orchestrator-accept-task", "octarm.v1.cmd.task.submit.>", False),
            ("orchestrator-finish-task", "$JS.API.STREAM.DELETE.OCTARM_EVENTS", False),
            ("arm-run-", "octarm.v1.cmd.arm.run.", False),
            ("somebody", "octarm.v1.evt.result.echo", False),
        ],
    )
    def test_goes_back_only_where_its_consumer_reads(
        self, origin: str, subject: str, *, may: bool
    ) -> None:
        stored = a_stored_letter(origin=origin, subject=subject)

        assert isinstance(redriven(stored.letter, stored.body), Outgoing) is may

    def test_carries_no_header_that_commands_the_server(self) -> None:
        stored = a_stored_letter(headers={"Nats-Schedule-Target": "x", "KV-Operation": "PURGE"})

        assert {"Nats-Schedule-Target", "KV-Operation"}.isdisjoint(_headers(_redriven(stored)))


class TestQuarantine:
    @pytest.mark.parametrize(
        ("headers", "why"),
        [
            ({"Nats-Msg-Id": "m"}, ""),
            ({"Nats-Msg-Id": "m", "traceparent": "00"}, ""),
            ({"Nats-Msg-Id": "m", "Nats-Expected-Stream": "S"}, ""),
            ({}, "it has no Nats-Msg-Id"),
            ({"traceparent": "00"}, "it has no Nats-Msg-Id"),
            ({"Nats-Msg-Id": "m", "Nats-Scheduler": "x"}, "it carries the header Nats-Scheduler"),
            ({"Nats-Msg-Id": "m", "nats-rollup": "all"}, "it carries the header nats-rollup"),
            ({"Nats-Msg-Id": "m", "KV-Operation": "P"}, "it carries the header KV-Operation"),
        ],
    )
    def test_keeps_from_the_handler_what_is_not_as_ours(
        self, headers: dict[str, str], why: str
    ) -> None:
        assert suspicion(a_delivery(headers=headers)) == why
