"""What the fleet knows: pieces of knowledge, how they are kept, found and let go.

A memory is known by its id, or by what it says: handing the same in twice keeps it once. A newer
memory about the same `subject` and `predicate` (two texts in its metadata) supersedes the older
one; a near-duplicate is merged into what is there. Neither is deleted: both stay as history.
"""

from math import isfinite
from typing import Annotated, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    model_validator,
)

from octarm.models.commands import Message
from octarm.models.errors import Problem
from octarm.models.ids import ArmId, MemoryId, Sha256, Tag, Tenant
from octarm.models.results import ProvenanceMetadata
from octarm.models.scalars import Count, Flag, Instant, Share

MAX_CONTENT: Final = 100_000
MAX_QUERY: Final = 4_000
MAX_DIMENSION: Final = 4_000
MAX_K: Final = 100
MAX_REMEMBERED: Final = 500
MAX_METADATA_KEYS: Final = 64
# A vector shorter than this points nowhere: halves of a float would make it all zeros.
MIN_NORM: Final = 1e-3
MAX_COMPONENT: Final = 60_000.0

EntityType = Literal["task", "decision", "fact", "artifact"]
RememberOutcome = Literal["created", "known", "merged", "superseded"]
SearchMode = Literal["hybrid", "text", "vector"]


def _points_somewhere(vector: list[float]) -> list[float]:
    if not all(isfinite(part) and abs(part) <= MAX_COMPONENT for part in vector):
        raise ValueError("each component must be a number of at most 60,000")
    if sum(part * part for part in vector) < MIN_NORM**2:
        raise ValueError("its norm is zero: it points nowhere")
    return vector


# What Postgres cannot store is not text.
Content = Annotated[
    str, StringConstraints(min_length=1, max_length=MAX_CONTENT, pattern=r"^[^\x00]*$")
]
QueryText = Annotated[str, StringConstraints(max_length=MAX_QUERY, pattern=r"^[^\x00]*$")]
EmbedderName = Annotated[
    str, StringConstraints(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9_.:/@-]+$")
]
Vector = Annotated[
    list[Annotated[float, Field(strict=True)]],
    Field(min_length=1, max_length=MAX_DIMENSION),
    AfterValidator(_points_somewhere),
]
Metadata = Annotated[dict[str, JsonValue], Field(max_length=MAX_METADATA_KEYS)]


class MergedFrom(Message):
    """A near-duplicate that was merged into a memory: who said so, too, and when."""

    memory_id: MemoryId
    source: ArmId
    timestamp: Instant
    confidence: Share
    content_hash: Sha256
    provenance: ProvenanceMetadata | None = None


class SemanticMemory(BaseModel):
    """A piece of knowledge that the fleet keeps."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    memory_id: MemoryId
    tenant: Tenant
    entity_type: EntityType
    content: Annotated[str, StringConstraints(min_length=1, max_length=MAX_CONTENT)]
    embeddings: list[float] = Field(
        default_factory=list, max_length=4096, description="Left out unless it is asked for"
    )
    metadata: dict[str, JsonValue] = Field(default_factory=dict)
    source: ArmId
    timestamp: Instant = Field(description="When it was found to be so")
    confidence: Share
    tags: list[Tag] = Field(default_factory=list, max_length=50)
    provenance: ProvenanceMetadata | None = None
    content_hash: Sha256 | None = Field(default=None, description="SHA-256 hex of the content")
    embedder: EmbedderName | None = Field(default=None, description="What made its vector")
    dimension: int | None = Field(default=None, ge=1, le=MAX_DIMENSION, strict=True)
    supersedes: MemoryId | None = Field(default=None, description="The one that it replaced")
    superseded_by: MemoryId | None = Field(
        default=None, description="Present on history: what is held for true instead"
    )
    superseded_at: Instant | None = None
    merged: list[MergedFrom] = Field(
        default_factory=list, description="Near-duplicates, the latest 100"
    )


class NewMemory(Message):
    """Something to be kept; what is not given is found out."""

    memory_id: MemoryId | None = Field(default=None, description="Makes handing it in idempotent")
    entity_type: EntityType = "fact"
    content: Content
    metadata: Metadata = Field(default_factory=dict)
    confidence: Share = 1.0
    tags: list[Tag] = Field(default_factory=list, max_length=50)
    timestamp: Instant | None = Field(default=None, description="Now, when absent")
    provenance: ProvenanceMetadata | None = None
    supersedes: MemoryId | None = Field(default=None, description="What it replaces")
    embedding: Vector | None = Field(default=None, description="Made by `embedder`")
    embedder: EmbedderName | None = None
    merge: Flag = Field(default=True, description="Whether a near-duplicate may take it in")

    @model_validator(mode="after")
    def _vector_with_its_maker(self) -> Self:
        if (self.embedding is None) != (self.embedder is None):
            raise ValueError("embedding and embedder go together")
        return self


class Remember(Message):
    """Keep these for a tenant, in the name of `source`; answered one by one, in order."""

    tenant: Tenant
    source: ArmId
    memories: list[NewMemory] = Field(min_length=1, max_length=MAX_REMEMBERED)


class RememberAnswer(Message):
    """What became of one: its id and whether it is new, or why it was refused."""

    memory_id: MemoryId | None = None
    outcome: RememberOutcome | None = Field(
        default=None,
        description="known: was there; merged: into `into`; superseded: it is history at once",
    )
    into: MemoryId | None = Field(default=None, description="What is held instead of it")
    redactions: Count = Field(default=0, description="Secrets and personal data taken out")
    problem: Problem | None = None


class Remembered(Message):
    """One answer for each memory, in order."""

    answers: list[RememberAnswer]


class MemoryFilter(Message):
    """Which memories: all of what is given must fit."""

    entity_types: list[EntityType] = Field(default_factory=list, max_length=4)
    tags: list[Tag] = Field(default_factory=list, max_length=20, description="It has all of them")
    sources: list[ArmId] = Field(default_factory=list, max_length=20, description="One of them")
    min_confidence: Share = 0.0
    since: Instant | None = Field(default=None, description="Its timestamp is this or later")
    until: Instant | None = Field(default=None, description="Its timestamp is earlier")


class MemoryQuestion(Message):
    """What is looked for: a text, a vector, or both."""

    query: QueryText = ""
    embedding: Vector | None = Field(default=None, description="Made by `embedder`")
    embedder: EmbedderName | None = None
    k: int = Field(default=10, ge=1, le=MAX_K, strict=True)
    mode: SearchMode = "hybrid"
    only: MemoryFilter = MemoryFilter()

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if (self.embedding is None) != (self.embedder is None):
            raise ValueError("embedding and embedder go together")
        if not self.query.strip() and (self.embedding is None or self.mode == "text"):
            raise ValueError("a query or, unless the mode is text, an embedding is needed")
        return self


class SearchMemory(MemoryQuestion):
    """Find the `k` memories that fit a text, a vector or both best; `arm_id` is who reads."""

    tenant: Tenant
    arm_id: ArmId | None = None


class ScoreExplained(Message):
    """Where a score comes from: by rank in either list, 1 / (60 + rank) each, added up."""

    text_rank: int | None = Field(default=None, description="1 is the best; None: not in the list")
    text_score: float = Field(default=0.0, description="Weight of the query's words that it has")
    text_part: float = Field(default=0.0, description="Of the score")
    vector_rank: int | None = None
    vector_similarity: float = Field(default=0.0, description="Cosine, −1 … 1")
    vector_part: float = 0.0


class MemoryHit(Message):
    """One memory that was found, and why it stands where it stands."""

    memory: SemanticMemory
    score: float
    explanation: ScoreExplained


class MemoriesFound(Message):
    """The best first."""

    hits: list[MemoryHit]
    embedders: list[EmbedderName] = Field(
        default_factory=list, description="What made the vectors that were compared"
    )
    degraded: str = Field(default="", description="What could not be asked, and why")


class GetMemory(Message):
    """Show one memory; with `history`, also what it superseded and took in, newest first."""

    tenant: Tenant
    arm_id: ArmId | None = None
    memory_id: MemoryId
    history: Flag = False


class MemoryFound(Message):
    """One memory, and its history when that was asked for."""

    memory: SemanticMemory
    history: list[SemanticMemory] = Field(default_factory=list)


class ForgetMemory(Message):
    """Delete one memory, its history and what was merged into it; twice is once."""

    tenant: Tenant
    arm_id: ArmId | None = None
    memory_id: MemoryId


class MemoryForgotten(Message):
    """How many rows went: 0 when it was gone already."""

    deleted: Count


class ReembedMemories(Message):
    """Say how far vectors of the present embedder are; `start` has all others made anew."""

    start: Flag = False


class Reembedding(Message):
    """How far the making of vectors is; it goes on after a restart by itself."""

    embedder: EmbedderName
    dimension: Count
    running: Flag
    total: Count = Field(default=0, description="Memories whose vector was another's at its start")
    done: Count = 0
    left: Count = Field(default=0, description="Without a vector of this embedder now")
    started_at: Instant | None = None
    finished_at: Instant | None = None
