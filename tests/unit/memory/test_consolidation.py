"""What of an episode is worth keeping."""

from typing import Any

import pytest

from octarm.memory.domain.consolidation import OFTEN, lessons, observations
from octarm.models.episodes import EpisodicMemory
from octarm.models.semantic import NewMemory
from tests.support.episodes import a_task_id, an_episode_id
from tests.support.semantic import NOON

SEEN = "The build takes nine minutes"


def an_episode(**fields: Any) -> EpisodicMemory:
    made: dict[str, Any] = {
        "episode_id": an_episode_id(1),
        "tenant": "acme",
        "arm_id": "writer",
        "task_id": a_task_id(1),
        "created_at": NOON,
    }
    return EpisodicMemory(**made | fields)


def kept(episode: EpisodicMemory, times: int = 0) -> list[NewMemory]:
    return list(lessons(episode, dict.fromkeys(observations(episode), times)).memories)


class TestRemember:
    def test_keeps_what_an_entry_asks_for(self) -> None:
        wish = {
            "content": "We use NATS",
            "entity_type": "decision",
            "metadata": {"subject": "bus", "predicate": "is"},
            "confidence": 0.7,
            "tags": ["docs"],
            "memory_id": "mem_of_another",
        }
        episode = an_episode(
            observations=[{"remember": "Squids have ink"}],
            actions=[{"remember": [wish, "Bread is baked at dawn"]}],
            tags=["person:ann"],
        )

        squids, nats, bread = kept(episode)

        assert (squids.content, bread.content) == ("Squids have ink", "Bread is baked at dawn")
        assert (nats.entity_type, nats.confidence) == ("decision", 0.7)
        assert nats.tags == ["docs", "person:ann"]
        assert nats.metadata == {
            "subject": "bus",
            "predicate": "is",
            "episode_id": an_episode_id(1),
            "task_id": a_task_id(1),
            "rule": "remember",
        }
        assert nats.provenance is not None
        assert nats.provenance.data_sources == [an_episode_id(1)]
        assert squids.timestamp == NOON

    def test_counts_wishes_that_are_none(self) -> None:
        spoilt: list[Any] = [
            1,
            "",
            {"content": ""},
            {"tags": []},
            {"content": "x", "tags": ["A B"]},
        ]

        found = lessons(an_episode(outcomes=[{"remember": spoilt}]), {})

        assert (found.memories, found.unreadable) == ((), 5)

    def test_is_the_same_each_time_and_once_for_one_wish(self) -> None:
        episode = an_episode(observations=[{"remember": ["Squids have ink", "Squids have ink"]}])

        assert kept(episode) == kept(episode)
        assert len(kept(episode)) == 1
        assert (
            kept(episode)[0].memory_id
            != kept(
                an_episode(
                    observations=[{"remember": "Squids have ink"}], episode_id=an_episode_id(2)
                )
            )[0].memory_id
        )


class TestOutcome:
    @pytest.mark.parametrize(
        "outcome",
        [
            {"status": "success", "summary": "The page is written"},
            {"ended": "completed", "output": {"text": "The page is written"}},
            {"success": True, "lesson": " The page is written "},
            {"result": "OK", "output": "The page is written"},
        ],
    )
    def test_keeps_a_success_in_words_with_its_goal(self, outcome: dict[str, Any]) -> None:
        (memory,) = kept(an_episode(observations=[{"goal": " Write it "}], outcomes=[outcome]))

        assert memory.content == "Write it: The page is written"
        assert (memory.entity_type, memory.confidence) == ("task", 0.8)

    def test_takes_over_how_sure_it_is(self) -> None:
        outcomes = [
            {"success": True, "text": "one two three", "confidence": 0.4},
            {"success": True, "text": "four five six", "confidence": 4.0},
        ]

        assert [one.confidence for one in kept(an_episode(outcomes=outcomes))] == [0.4, 0.8]

    @pytest.mark.parametrize(
        "outcome",
        [
            "The page is written",
            {"status": "failure", "summary": "The page is written"},
            {"success": "yes", "summary": "The page is written"},
            {"status": "success"},
            {"status": "success", "summary": "short"},
            {"status": "success", "summary": "x" * 2_001},
            {"status": "success", "summary": "with \x00 in it"},
            {"status": "success", "output": {"pages": 3}},
            {"status": "success", "output": 7},
        ],
    )
    def test_keeps_nothing_else(self, outcome: Any) -> None:
        assert kept(an_episode(observations=[{"goal": 1}, "seen"], outcomes=[outcome])) == []


class TestRepeated:
    def test_keeps_what_was_seen_often_once_for_the_arm(self) -> None:
        one = an_episode(observations=[SEEN, {"text": f"  {SEEN.upper()} "}, {"goal": "x"}])
        other = an_episode(observations=[SEEN], episode_id=an_episode_id(2))

        (first,), (second,) = kept(one, OFTEN), kept(other, OFTEN + 1)

        assert (first.content, first.confidence) == (SEEN, 0.75)
        assert first.memory_id == second.memory_id
        assert kept(one, OFTEN - 1) == []

    def test_of_nobody_is_told_apart(self) -> None:
        (of_nobody,) = kept(an_episode(observations=[SEEN], arm_id=None), OFTEN)
        (of_writer,) = kept(an_episode(observations=[SEEN]), OFTEN)

        assert of_nobody.provenance is not None
        assert of_nobody.provenance.arm_id == "memory"
        assert of_nobody.memory_id != of_writer.memory_id
