"""What arms and the fleet remember."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints

from octarm.models.ids import ArmId, EpisodeId, MemoryId, Tag, TaskId, Tenant
from octarm.models.results import ProvenanceMetadata
from octarm.models.scalars import MAX_INT, Instant, Share

DEFAULT_TTL_S = 3600
Source = Literal["redis", "postgres"]


class EpisodicMemory(BaseModel):
    """What one arm saw, did and got while it worked on one task."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    episode_id: EpisodeId
    tenant: Tenant
    arm_id: ArmId | None = Field(description="None when no arm ever had the task")
    task_id: TaskId
    observations: list[JsonValue] = Field(default_factory=list)
    actions: list[JsonValue] = Field(default_factory=list)
    outcomes: list[JsonValue] = Field(default_factory=list)
    ttl_seconds: int = Field(
        default=DEFAULT_TTL_S, ge=1, le=MAX_INT, strict=True, description="Seconds in Redis"
    )
    created_at: Instant


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
