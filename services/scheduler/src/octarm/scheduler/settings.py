"""What the scheduler reads at its start."""

from typing import ClassVar

from pydantic import Field

from octarm.common.service import ServiceSettings
from octarm.models.subjects import MAX_SHARDS


class Settings(ServiceSettings):
    """The scheduler's own settings."""

    section: ClassVar[str] = "scheduler"

    shards: int = Field(default=1, ge=1, le=MAX_SHARDS, description="The same in every service")
    queue_capacity: int = Field(
        default=100_000, ge=64, description="Tasks per shard; more stay in the stream"
    )
    ageing_s: float = Field(
        default=60.0, gt=0, description="Seconds of waiting that count for one priority step"
    )
    promote_after_s: float = Field(
        default=300.0, gt=0, description="Seconds after which batch work counts as interactive"
    )
