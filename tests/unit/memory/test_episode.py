"""What an episode is made of."""

import hashlib
import json
from typing import Any

import pytest

from octarm.memory.domain.episode import MAX_OUTPUT_BYTES, NotAnEnding, episode_of, read_ending
from octarm.models.episodes import EpisodicMemory
from tests.support.episodes import a_result, a_task_id, an_ending, an_episode, an_episode_id

PROBLEM = {"title": "t", "status": 504, "code": "DEADLINE_EXCEEDED", "category": "timeout"}


def outcome(data: bytes) -> dict[str, Any]:
    (found,) = json.loads(episode_of(read_ending(data)).body)["outcomes"]
    assert isinstance(found, dict)
    return found


class TestEpisode:
    def test_says_what_was_seen_done_and_got(self) -> None:
        episode = an_episode(7)

        memory = EpisodicMemory.model_validate_json(episode.body)
        assert memory.episode_id == episode.episode_id == an_episode_id(7)
        assert (memory.tenant, memory.task_id, memory.arm_id) == ("acme", a_task_id(7), "writer")
        assert memory.observations == [{"goal": "write"}]
        assert memory.actions == [{"attempt": 1, "arm_id": "writer", "instance_id": "i-1"}]
        assert memory.outcomes == [
            {
                "ended": "completed",
                "status": "success",
                "output": {"text": "done"},
                "execution_time_ms": 12,
                "confidence": 1.0,
                "tokens_used": 34,
                "cost_dollars": 0.0,
                "llm_calls": 0,
            }
        ]
        assert memory.ttl_seconds == 3600

    def test_the_same_event_gives_the_same_bytes(self) -> None:
        assert an_episode() == an_episode()

    def test_a_time_is_written_in_its_own_zone_whatever_was_written_before(self) -> None:
        utc, local = (
            an_ending(occurred_at=at)
            for at in ("2026-11-21T12:00:00+00:00", "2026-11-21T14:00:00+02:00")
        )

        texts = [episode_of(read_ending(data)).created_at for data in (utc, local, utc)]

        assert [text[11:] for text in texts] == [
            "12:00:00+00:00",
            "14:00:00+02:00",
            "12:00:00+00:00",
        ]

    def test_a_task_that_no_arm_had_has_no_action(self) -> None:
        data = an_ending(verb="cancelled", arm_id=None, attempt=0, reason="not wanted")

        memory = EpisodicMemory.model_validate_json(episode_of(read_ending(data)).body)

        assert memory.arm_id is None
        assert memory.actions == []
        assert memory.outcomes == [{"ended": "cancelled", "reason": "not wanted"}]

    def test_a_failure_keeps_its_error(self) -> None:
        result = a_result(status="failure", error=PROBLEM, output=None)

        of_result = outcome(an_ending(verb="completed", result=result))
        of_event = outcome(an_ending(verb="failed", error=PROBLEM | {"code": "X"}, result=result))

        assert of_result["error"] == PROBLEM
        assert of_event["error"]["code"] == "X"

    def test_a_very_long_error_keeps_its_code(self) -> None:
        long = PROBLEM | {"detail": "x" * 20_000}

        error = outcome(an_ending(verb="timed_out", error=long))["error"]

        assert error == {"code": "DEADLINE_EXCEEDED", "title": "t", "detail": "x" * 1000}

    def test_an_error_that_is_none_still_counts(self) -> None:
        error = outcome(an_ending(verb="failed", error=["x" * 20_000]))["error"]

        assert error["code"] == "INTERNAL"

    @pytest.mark.parametrize("result", [None, "absent"])
    def test_says_when_the_event_carried_no_result(self, result: str | None) -> None:
        fields: dict[str, Any] = {} if result else {"result": None}
        data = an_ending(verb="completed", **fields)
        if result:
            event = json.loads(data)
            del event["result"]
            data = json.dumps(event).encode()

        assert outcome(data) == {"ended": "completed", "result_left_out": True}

    def test_a_large_output_is_known_by_its_digest(self) -> None:
        text = "x" * MAX_OUTPUT_BYTES
        output = json.dumps(text).encode()

        found = outcome(an_ending(result=a_result(output=text)))

        assert "output" not in found
        assert found["output_bytes"] == len(output)
        assert found["output_sha256"] == hashlib.sha256(output).hexdigest()

    @pytest.mark.parametrize("output", [b"[" * 300 + b"]" * 300, b'"\xff"'])
    def test_an_output_that_could_not_be_read_again_is_known_by_its_digest(
        self, output: bytes
    ) -> None:
        data = an_ending().replace(b'{"text": "done"}', output)

        found = outcome(data)

        assert found["output_sha256"] == hashlib.sha256(output).hexdigest()
        EpisodicMemory.model_validate_json(episode_of(read_ending(data)).body)

    def test_keeps_what_was_written_word_for_word(self) -> None:
        nasty = "'; drop -- \x00 \u202e\u200b \x1b[31m 🐙 {} %s"

        memory = EpisodicMemory.model_validate_json(an_episode(goal=nasty).body)

        assert memory.observations == [{"goal": nasty}]


class TestNotAnEnding:
    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"null",
            b"\xff",
            b"[" * 100_000,
            an_ending(verb="started"),
            an_ending(tenant="a.b"),
            an_ending(task_id="tsk_*"),
        ],
    )
    def test_what_is_no_terminal_event_is_refused(self, data: bytes) -> None:
        with pytest.raises(NotAnEnding):
            read_ending(data)

    def test_a_result_that_is_none_is_refused(self) -> None:
        with pytest.raises(NotAnEnding):
            episode_of(read_ending(an_ending(result={"status": 7})))

    @pytest.mark.parametrize("output", [b'"\\ud800"', b'{"a":{"b":"\\udfff"}}'])
    def test_an_output_that_is_no_text_is_refused(self, output: bytes) -> None:
        with pytest.raises(NotAnEnding):
            read_ending(an_ending().replace(b'{"text": "done"}', output))
