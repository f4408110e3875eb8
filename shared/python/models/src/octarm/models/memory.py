"""What the fleet keeps of what its arms remember."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints

from octarm.models.ids import ArmId, MemoryId, Tag, Tenant
from octarm.models.results import ProvenanceMetadata
from octarm.models.scalars import Instant, Share


class SemanticMemory(BaseModel):
    """A piece of knowledge that the fleet keeps."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    memory_id: MemoryId
    tenant: Tenant
    entity_type: Literal["task", "decision", "fact", "artifact"]
    content: Annotated[str, StringConstraints(min_length=1, max_length=100_000)]
    embeddings: list[float] = Field(default_factory=list, max_length=4096)
    metadata: dict[str, JsonValue] = Field(default_factory=dict)
    source: ArmId
    timestamp: Instant
    confidence: Share
    tags: list[Tag] = Field(default_factory=list, max_length=50)
    provenance: ProvenanceMetadata | None = None
