"""The settings of this arm."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Read from `OCTARM_RETRIEVER_*`."""

    model_config = SettingsConfigDict(
        env_prefix="OCTARM_RETRIEVER_", frozen=True, extra="forbid", env_ignore_empty=True
    )

    arm_id: str = Field(default="retriever", description="Name in the fleet")
    slots: int = Field(default=8, ge=1, le=64, description="Tasks at the same time")
    snippet_chars: int = Field(
        default=400, ge=80, le=4_000, description="Most characters of a citation's snippet"
    )
