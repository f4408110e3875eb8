"""What the memory service reads at its start."""

from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from octarm.common.service import ServiceSettings
from octarm.memory.domain.access import Access
from octarm.memory.domain.endpoints import checked_endpoint
from octarm.models.episodes import DEFAULT_TTL_S
from octarm.models.semantic import MAX_DIMENSION, EntityType

LOCAL_MODEL: Final = "wordllama-256"

KnowledgeClass = EntityType | Literal["history", "audit"]


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
    redact_episodes: bool = Field(
        default=False,
        description="Take secrets and personal data of known shapes out of episodes as well, before"
        " they are stored; out of what becomes knowledge they are always taken",
    )
    brief_retention_days: int = Field(
        default=7, ge=1, le=3650, description="Days for which episodes kept briefly stay"
    )
    long_retention_days: int = Field(
        default=730, ge=1, le=3650, description="Days for which episodes kept long stay"
    )
    knowledge_days: dict[KnowledgeClass, Annotated[int, Field(ge=1, le=36_500)]] = Field(
        default={"history": 730, "audit": 365},
        description="Class of rows of semantic memory → days for which they stay, as JSON: an"
        " entity type, history, audit; what is not named stays",
    )
    condense_tokens: int = Field(
        default=0,
        ge=0,
        le=1_000_000,
        description="Tokens for which a model may condense each episode that is looked through, as"
        " a task that needs `condense`; 0: none does",
    )
    condense_per_hour: int = Field(
        default=60, ge=1, le=100_000, description="How many such tasks a process hands in an hour"
    )
    embeddings_url: Annotated[str, AfterValidator(checked_endpoint)] | None = Field(
        default=None,
        description="Base URL of an OpenAI-compatible /embeddings; none: the local model that is"
        " named, else hashing",
    )
    embeddings_model: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9_.:/@-]{0,200}$",
        description="Model that is asked there; its name stands in every row. Without a URL:"
        " wordllama-256 (octarm-memory[local])",
    )
    embeddings_dimension: int = Field(
        default=1536, ge=1, le=MAX_DIMENSION, description="Components of its vectors"
    )
    embeddings_key: SecretStr = Field(default=SecretStr(""), description="Key of that server")

    @model_validator(mode="after")
    def _model_of_its_url(self) -> Self:
        if self.embeddings_url and not self.embeddings_model:
            raise ValueError("embeddings_url needs embeddings_model")
        if not self.embeddings_url and self.embeddings_model not in ("", LOCAL_MODEL):
            raise ValueError(f"embeddings_model needs embeddings_url, or is {LOCAL_MODEL}")
        return self
