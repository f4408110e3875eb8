"""The settings of this arm."""

from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Read from `OCTARM_LLM_*`."""

    model_config = SettingsConfigDict(
        env_prefix="OCTARM_LLM_", frozen=True, extra="forbid", env_ignore_empty=True
    )

    arm_id: str = Field(default="llm", description="Name in the fleet")
    provider: Literal["local", "openai"] = Field(
        default="local", description="local or openai (any compatible URL)"
    )
    base_url: str = Field(default="", description="openai: up to and with /v1")
    api_key: SecretStr = Field(default=SecretStr(""), description="openai: sent as bearer token")
    model: str = Field(default="", description="Name (openai) or path of a GGUF file (local)")
    credential: str = Field(
        default="",
        max_length=64,
        description="openai: a name for the key; arms with the same one share its headroom",
    )
    context_tokens: int = Field(
        default=2048, ge=512, le=2_000_000, description="Tokens of one task, in and out"
    )
    max_output_tokens: int = Field(
        default=256, ge=1, le=32_768, description="Tokens, when the task names no limit"
    )
    temperature: float = Field(default=0.2, ge=0, le=2, description="When the task names none")
    slots: int = Field(default=2, ge=1, le=256, description="Tasks at the same time")
    threads: int = Field(
        default=2, ge=1, le=64, description="local: processors for reading prompts"
    )
    timeout_s: float = Field(default=60, gt=0, le=600, description="Seconds without a byte")

    @model_validator(mode="after")
    def _openai_is_named(self) -> Self:
        if self.provider == "openai" and not (
            self.base_url.startswith(("http://", "https://")) and self.model
        ):
            raise ValueError("provider openai needs OCTARM_LLM_BASE_URL and OCTARM_LLM_MODEL")
        return self
