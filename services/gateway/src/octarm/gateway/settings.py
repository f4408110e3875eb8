"""What can be set, by `OCTARM_*` or a TOML file."""

from typing import ClassVar, Literal

from pydantic import Field, SecretStr, field_validator

from octarm.common.service import ServiceSettings
from octarm.gateway.domain.tenants import Tenants
from octarm.models.ids import is_name
from octarm.models.subjects import MAX_SHARDS


class Settings(ServiceSettings):
    """Settings of the gateway."""

    section: ClassVar[str] = "gateway"

    http_port: int = Field(default=8080, ge=0, le=65535, description="The API; 0: any free port")
    api_keys: SecretStr = Field(
        default=SecretStr(""),
        description='JSON object of API key → tenant; empty: one tenant "default", no key needed',
    )
    operators: str = Field(
        default="",
        description="Tenants, with commas between, whose keys may see dead letters and policies",
    )
    policy_mode: Literal["home", "platform"] = Field(
        default="platform", description="Who may change policies: every tenant, or operators"
    )
    shards: int = Field(default=1, ge=1, le=MAX_SHARDS, description="The same in every service")
    drain_s: float = Field(
        default=10.0, gt=0, le=300, description="Seconds for requests in hand at the end"
    )

    answer_s: float = Field(
        default=2.0, gt=0, le=60, description="Seconds for the services behind it to answer in"
    )
    memory_s: float = Field(
        default=10.0,
        gt=0,
        le=60,
        description="Seconds for memory to answer in; twice that to remember or count many",
    )
    max_connections: int = Field(
        default=2_000, ge=1, le=100_000, description="Open connections; more get 503"
    )

    @field_validator("operators")
    @classmethod
    def _tenants(cls, names: str) -> str:
        if any(not is_name(name) for name in names.split(",") if names):
            raise ValueError("operators: tenants are lower-case letters, digits and hyphens")
        return names

    @field_validator("api_keys")
    @classmethod
    def _keys(cls, keys: SecretStr) -> SecretStr:
        Tenants.parse(keys.get_secret_value())
        return keys
