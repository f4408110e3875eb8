"""Looking after memory: what is there, and how much."""

from typing import Final

from pydantic import Field, JsonValue

from octarm.models.commands import Message
from octarm.models.ids import ArmId, MemoryId, Sha256, Tag, Tenant
from octarm.models.scalars import Count, Instant, Share
from octarm.models.semantic import EntityType

MAX_LISTED: Final = 500


class ListMemories(Message):
    """Page through a tenant's memories by id; history is left out."""

    tenant: Tenant
    tags: list[Tag] = Field(default_factory=list, max_length=20, description="It has all of them")
    entity_type: EntityType | None = None
    after: MemoryId | None = Field(default=None, description="The last one of the page before")
    limit: int = Field(default=100, ge=1, le=MAX_LISTED, strict=True)


class ListedMemory(Message):
    """What a list tells of a memory; its content is shown by its id."""

    memory_id: MemoryId
    entity_type: EntityType
    source: ArmId
    timestamp: Instant
    confidence: Share
    tags: list[Tag]
    metadata: dict[str, JsonValue]
    content_hash: Sha256


class MemoriesListed(Message):
    """One page; `after` is where the next one begins, None when this was the last."""

    memories: list[ListedMemory]
    after: MemoryId | None = None


class CountMemories(Message):
    """Count what a tenant's memory holds."""

    tenant: Tenant


class MemoryCounts(Message):
    """How much there is. `by_source` and `by_tag` have the largest twenty."""

    memories: Count
    by_type: dict[str, Count] = Field(default_factory=dict)
    by_source: dict[str, Count] = Field(default_factory=dict)
    by_tag: dict[str, Count] = Field(default_factory=dict)
    by_embedder: dict[str, Count] = Field(default_factory=dict)
    without_vector: Count = Field(default=0, description="Found by their words only, until later")
    history: Count = Field(default=0, description="Superseded, and merged into others")
    episodes: Count = 0
    oldest: Instant | None = None
    newest: Instant | None = None
