"""What the memory service reads at its start."""

from typing import ClassVar

from pydantic import Field, SecretStr

from octarm.common.service import ServiceSettings
from octarm.memory.domain.access import Access
from octarm.models.episodes import DEFAULT_TTL_S


class Settings(ServiceSettings):
    """Where episodes are kept, and for how many seconds in Redis."""

    section: ClassVar[str] = "memory"

    postgres_url: SecretStr = Field(description="The episodes; postgresql://…")
    redis_url: SecretStr = Field(
        default=SecretStr("redis://127.0.0.1:6379/0"), description="The fast front"
    )
    episode_ttl_s: int = Field(default=DEFAULT_TTL_S, ge=1, description="Seconds in Redis")
    retention_days: int = Field(
        default=90, ge=1, le=3650, description="Days for which episodes stay in Postgres"
    )
    memory_access: dict[str, Access] = Field(
        default={},
        description="Arm id, or * → what it may read and write in semantic memory, as JSON",
    )
    brief_retention_days: int = Field(
        default=7, ge=1, le=3650, description="Days for which episodes kept briefly stay"
    )
    long_retention_days: int = Field(
        default=730, ge=1, le=3650, description="Days for which episodes kept long stay"
    )
