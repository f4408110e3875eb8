"""Beats as anybody may write them."""

import json
from typing import Any

import pytest

from octarm.arm_registry.domain.beats import Beat, NotABeat, read_beat
from octarm.models.subjects import HEARTBEAT
from tests.support.arms import beat_bytes

SUBJECT = HEARTBEAT.at(arm_id="writer", instance_id="i-1")


class TestReadBeat:
    def test_reads_an_ordinary_beat(self) -> None:
        running = [{"task_id": "tsk_0", "attempt": 1}] * 3
        data = beat_bytes(
            running=running, avg_latency_ms=12.5, error_rate=0.01, interval_s=2, host="h"
        )

        beat = read_beat(SUBJECT, data)

        assert beat == Beat(
            arm_id="writer",
            instance_id="i-1",
            slots=4,
            running=3,
            avg_latency_ms=12.5,
            error_rate=0.01,
            interval_s=2,
            host="h",
        )

    @pytest.mark.parametrize(
        ("field", "value", "read"),
        [
            ("slots", -1, 0),
            ("slots", 1e9, 10_000),
            ("slots", 10**400, 10_000),
            ("slots", "many", 0),
            ("slots", True, 0),
            ("error_rate", 7, 1),
            ("error_rate", float("nan"), 0),
            ("error_rate", float("inf"), 1),
            ("avg_latency_ms", -3, 0),
            ("interval_s", 0, 0.1),
            ("interval_s", 1e12, 60),
            ("interval_s", None, 5),
            ("running", "all", 0),
            ("running", [1] * 20_000, 10_000),
            ("host", 7, ""),
            ("host", "h" * 400, "h" * 255),
        ],
    )
    @pytest.mark.bad_input(12)
    def test_clamps_what_is_out_of_range(self, field: str, value: Any, read: Any) -> None:
        fields: dict[str, Any] = {field: value}

        beat = read_beat(SUBJECT, beat_bytes(**fields))

        assert getattr(beat, field) == read

    def test_sees_that_an_instance_drains(self) -> None:
        assert read_beat(SUBJECT, beat_bytes(status="draining")).draining

    @pytest.mark.bad_input(12)
    def test_takes_no_time_from_the_sender(self) -> None:
        assert read_beat(SUBJECT, beat_bytes(timestamp="2999-01-01T00:00:00Z")) == read_beat(
            SUBJECT, beat_bytes()
        )

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"null",
            b"[]",
            b"\xff\xfe",
            b'{"arm_id":',
            b"[" * 100_000,
            b"[" * 5_000,
            b"x" * (1024 * 1024 + 1),
            beat_bytes("reader"),
            beat_bytes(instance_id="i-2"),
        ],
    )
    def test_refuses_what_is_no_beat_of_this_instance(self, data: bytes) -> None:
        with pytest.raises(NotABeat):
            read_beat(SUBJECT, data)

    @pytest.mark.parametrize("subject", ["octarm.v1.hb.writer.", "x", "octarm.v1.hb.wr ter.i-1"])
    def test_refuses_a_subject_that_names_no_instance(self, subject: str) -> None:
        with pytest.raises(NotABeat):
            read_beat(subject, json.dumps({}).encode())
