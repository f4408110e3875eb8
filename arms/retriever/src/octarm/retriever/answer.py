"""Answer a goal from memory: what was found there, word for word, with where it was found."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from octarm.models.contracts import TaskContract
from octarm.models.errors import FieldError, InvalidRequest
from octarm.models.ids import Tag
from octarm.models.results import ExecutionResult, ProvenanceMetadata
from octarm.models.scalars import Share
from octarm.models.semantic import EntityType, MemoryFilter, MemoryHit
from octarm.retriever.snippets import Snippet, best_snippet, weights_of, words_of

MAX_QUERY: Final = 4_000
NOTHING: Final = "Nothing in memory answers this."
_PLACE: Final = ("document", "headings", "page", "start", "end")


class Ask(BaseModel):
    """What a task may say in its context about where to look."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    k: int = Field(default=5, ge=1, le=20, strict=True, description="Most citations")
    tags: list[Tag] = Field(default_factory=list, max_length=20)
    entity_types: list[EntityType] = Field(default_factory=list, max_length=4)
    min_confidence: Share = 0.0

    @property
    def only(self) -> MemoryFilter:
        """Which memories are looked at."""
        return MemoryFilter(
            tags=self.tags, entity_types=self.entity_types, min_confidence=self.min_confidence
        )


class Memory(Protocol):
    """Where it looks (`ctx.memory` of the SDK)."""

    async def recall(
        self, query: str, k: int = 10, *, only: MemoryFilter | None = None
    ) -> list[MemoryHit]:
        """Find the memories that fit best."""
        ...


class Attempt(Protocol):
    """Who answers (`octarm.sdk.Context` is one)."""

    attempt: int
    arm_id: str
    instance_id: str

    @property
    def memory(self) -> Memory:
        """Where it looks."""
        ...


@dataclass(frozen=True, slots=True)
class AnswerFromMemory:
    """Answers with the passages that fit a goal best; never with a word that is not in them."""

    snippet_chars: int

    async def __call__(self, task: TaskContract, attempt: Attempt) -> ExecutionResult:
        """
        Raises:
            InvalidRequest: the context asks for something that cannot be.
            OctarmError: memory does not answer, or this arm may not read it.
        """
        ask = ask_of(task)
        began = datetime.now(UTC)
        hits = await attempt.memory.recall(task.goal[:MAX_QUERY], ask.k, only=ask.only)
        output, share = answered(task.goal, hits, snippet_chars=self.snippet_chars)
        now = datetime.now(UTC)
        return ExecutionResult(
            task_id=task.task_id,
            attempt=attempt.attempt,
            arm_id=attempt.arm_id,
            instance_id=attempt.instance_id,
            status="success",
            output=output,
            confidence=share,
            execution_time_ms=int((now - began).total_seconds() * 1000),
            retryable=False,
            provenance=ProvenanceMetadata(
                arm_id=attempt.arm_id,
                timestamp=now,
                command_hash=hashlib.sha256(task.goal.encode()).hexdigest(),
                data_sources=[hit.memory.memory_id for hit in hits],
            ),
        )


def ask_of(task: TaskContract) -> Ask:
    """
    Raises:
        InvalidRequest: the context asks for something that cannot be.
    """
    try:
        return Ask.model_validate(task.context)
    except ValidationError as error:
        fields = [
            FieldError(field=".".join(("context", *map(str, one["loc"]))), message=one["msg"])
            for one in error.errors()
        ]
        raise InvalidRequest(
            "the context does not say how to look",
            "It may have k (1 to 20), tags, entity_types and min_confidence.",
            errors=fields,
        ) from None


def answered(
    goal: str, hits: Sequence[MemoryHit], *, snippet_chars: int
) -> tuple[JsonValue, float]:
    """Give the output, and which share of the goal's telling words the citations have (0 – 1)."""
    bodies = [body_of(hit) for hit in hits]
    weights = weights_of(words_of(goal), [hit.memory.content for hit in hits])
    citations: list[dict[str, Any]] = []
    passages: list[str] = []
    covered: set[str] = set()
    for number, (hit, body) in enumerate(zip(hits, bodies, strict=True), 1):
        text = hit.memory.content
        snippet = best_snippet(text[body:], weights, longest=snippet_chars)
        # The words of a piece's title count, too: they say what it is about.
        words = snippet.words | (words_of(text[:body]) & weights.keys())
        covered |= words
        citations.append(_citation(number, hit, snippet, body))
        # The best one may fit by its meaning alone; further ones without a word of the goal are
        # what a search gives that is to give so many.
        if words or number == 1:
            passages.append(f"{snippet.text} [{number}]")
    share = sum(weights[word] for word in covered) / (sum(weights.values()) or 1)
    return {
        "answer": "\n\n".join(passages) or NOTHING,
        "found": bool(citations),
        "coverage": round(share, 3),
        "citations": citations,  # type: ignore[dict-item]
    }, round(share, 3)


def body_of(hit: MemoryHit) -> int:
    """Give where a memory's text begins: a piece of a document has a line above that names it."""
    document = hit.memory.metadata.get("document")
    if isinstance(document, str) and document and hit.memory.content.startswith(document):
        return hit.memory.content.find("\n\n") + 2 if "\n\n" in hit.memory.content else 0
    return 0


def _citation(number: int, hit: MemoryHit, snippet: Snippet, body: int) -> dict[str, Any]:
    """`snippet` is the memory's content from `snippet_start` to before `snippet_end`."""
    memory = hit.memory
    return {
        "number": number,
        "memory_id": memory.memory_id,
        "score": hit.score,
        "snippet": snippet.text,
        "snippet_start": body + snippet.start,
        "snippet_end": body + snippet.end,
        "source": memory.source,
        "entity_type": memory.entity_type,
        "timestamp": memory.timestamp.isoformat(),
        "confidence": memory.confidence,
        "place": {name: memory.metadata[name] for name in _PLACE if name in memory.metadata},
    }
