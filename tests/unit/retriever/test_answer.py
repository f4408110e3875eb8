"""Answers hold nothing but what is in memory, and say where."""

from datetime import UTC, datetime
from typing import Any

import pytest

from octarm.models.errors import InvalidRequest
from octarm.models.ids import derived_id
from octarm.models.semantic import MemoryFilter, MemoryHit, ScoreExplained, SemanticMemory
from octarm.retriever.answer import NOTHING, AnswerFromMemory, answered
from tests.support.arm_stage import a_task

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def a_hit(content: str, *, score: float = 0.03, **fields: Any) -> MemoryHit:
    memory = SemanticMemory(
        memory_id=derived_id("mem", content, unix_ms=0),
        tenant="acme",
        entity_type="fact",
        content=content,
        source="llm",
        timestamp=NOON,
        confidence=0.9,
        **fields,
    )
    return MemoryHit(memory=memory, score=score, explanation=ScoreExplained())


class FakeMemory:
    """Gives the same hits for every question, and keeps what was asked."""

    def __init__(self, *hits: MemoryHit) -> None:
        self.hits = list(hits)
        self.asked: list[tuple[str, int, MemoryFilter | None]] = []

    async def recall(
        self, query: str, k: int = 10, *, only: MemoryFilter | None = None
    ) -> list[MemoryHit]:
        self.asked.append((query, k, only))
        return self.hits[:k]


class FakeAttempt:
    attempt = 1
    arm_id = "retriever"
    instance_id = "retriever-1"

    def __init__(self, memory: FakeMemory) -> None:
        self.memory = memory


def test_every_citation_holds_what_it_claims() -> None:
    hits = [
        a_hit(
            "retention.md › Episodes stay\n\nEpisodes stay for 90 days. More below.",
            metadata={"document": "retention.md"},
        ),
        a_hit("Dead letters stay for 30 days.", metadata={"document": "a.md", "page": 3, "x": 1}),
    ]

    output: Any
    output, share = answered("How long do episodes stay?", hits, snippet_chars=80)

    first, second = output["citations"]
    for one, hit in ((first, hits[0]), (second, hits[1])):
        content = hit.memory.content
        assert content[one["snippet_start"] : one["snippet_end"]] == one["snippet"]
        assert one["memory_id"] == hit.memory.memory_id
    assert (
        output["answer"] == "Episodes stay for 90 days. [1]\n\nDead letters stay for 30 days. [2]"
    )
    assert second["place"] == {"document": "a.md", "page": 3}
    assert 0 < share <= 1


def test_a_further_passage_without_a_word_of_the_goal_is_cited_only() -> None:
    hits = [a_hit("Nothing of it."), a_hit("Otters sleep below bridges."), a_hit("Locks wait.")]

    output: Any
    output, _ = answered("Where do otters sleep?", hits, snippet_chars=80)

    assert output["answer"] == "Nothing of it. [1]\n\nOtters sleep below bridges. [2]"
    assert [one["number"] for one in output["citations"]] == [1, 2, 3]


def test_says_so_when_nothing_was_found() -> None:
    output, share = answered("What?", [], snippet_chars=80)

    assert output == {"answer": NOTHING, "found": False, "coverage": 0.0, "citations": []}
    assert share == 0


async def test_looks_where_the_task_says() -> None:
    memory = FakeMemory(a_hit("Blue."))
    task = a_task(goal="Which colour?", context={"k": 2, "tags": ["docs"], "other": 1})

    result = await AnswerFromMemory(400)(task, FakeAttempt(memory))

    assert memory.asked == [("Which colour?", 2, MemoryFilter(tags=["docs"]))]
    assert result.status == "success"
    assert result.provenance.data_sources == [memory.hits[0].memory.memory_id]


@pytest.mark.parametrize(
    "context", [{"k": 0}, {"k": "5"}, {"k": 21}, {"tags": "x"}, {"entity_types": ["lie"]}]
)
async def test_refuses_what_cannot_be(context: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await AnswerFromMemory(400)(a_task(context=context), FakeAttempt(FakeMemory()))

    assert refused.value.errors
