"""Episodes: what one arm saw, did and got, and the requests about them."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from octarm.models.commands import Message
from octarm.models.ids import ArmId, EpisodeId, TaskId, Tenant
from octarm.models.queries import Cursor, Limit
from octarm.models.scalars import MAX_INT, Instant

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


class GetEpisode(Message):
    """Show one episode."""

    tenant: Tenant
    episode_id: EpisodeId


class FindEpisodes(Message):
    """Page through a tenant's episodes, newest first."""

    tenant: Tenant
    arm_id: ArmId | None = None
    task_id: TaskId | None = None
    cursor: Cursor = ""
    limit: Limit = 50


class EpisodeFound(Message):
    """One episode and where it came from."""

    episode: EpisodicMemory
    source: Source
    degraded: bool = Field(default=False, description="Redis did not answer")


class EpisodesFound(Message):
    """One page; an empty cursor means that it was the last."""

    episodes: list[EpisodicMemory]
    cursor: str = ""
