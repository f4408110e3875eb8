"""The orchestrator's settings."""

from typing import ClassVar

from pydantic import Field, SecretStr

from octarm.common.service import ServiceSettings
from octarm.models.subjects import MAX_SHARDS


class Settings(ServiceSettings):
    """What the orchestrator reads at its start."""

    section: ClassVar[str] = "orchestrator"

    postgres_url: SecretStr = Field(description="The ledger; postgresql://…")
    shards: int = Field(default=1, ge=1, le=MAX_SHARDS, description="The same in every service")
    dispatch_lease_s: float = Field(
        default=15.0, gt=0, le=600, description="Seconds an attempt may stay without a start"
    )
