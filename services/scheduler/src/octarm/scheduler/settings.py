"""What the scheduler reads at its start."""

from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from octarm.common.service import ServiceSettings
from octarm.models.subjects import MAX_SHARDS
from octarm.policies.builtin import BUILTIN, DEFAULT
from octarm.policies.builtin.policy import Builtin
from octarm.policies.context import Config
from octarm.policies.queue.governors import ProviderLimits
from octarm.policies.queue.limits import LimitRule, compiled
from octarm.policies.queue.queue import FullPolicy

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1, max_length=64)]


class KeyLimit(BaseModel):
    """At most so many tasks of a key at once, or started a second; the key is CEL over `task`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    key: str
    concurrency: int | None = Field(default=None, ge=1)
    rate_per_s: Positive | None = None
    burst: float = Field(default=1.0, ge=1)

    @field_validator("key")
    @classmethod
    def _is_an_expression(cls, key: str) -> str:
        compiled(key)
        return key

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.concurrency is None and self.rate_per_s is None:
            raise ValueError("concurrency or rate_per_s is wanted")
        return self


class Provider(BaseModel):
    """What a provider grants to `provider/credential/model`, the labels of arms."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: Annotated[str, Field(min_length=1, max_length=256)]
    requests_per_minute: Positive | None = None
    tokens_per_minute: Positive | None = None


class Settings(ServiceSettings):
    """The scheduler's own settings."""

    section: ClassVar[str] = "scheduler"

    shards: int = Field(default=1, ge=1, le=MAX_SHARDS, description="The same in every service")
    policy: str = Field(
        default=DEFAULT.name, description=f"One of the built-in ones: {', '.join(sorted(BUILTIN))}"
    )
    queue_capacity: int = Field(
        default=100_000, ge=64, description="Tasks per shard; more stay in the stream"
    )
    full_policy: FullPolicy = Field(
        default="reject",
        description="At capacity: `reject` reads no more; `drop_lru`, `shed_batch` end batch tasks",
    )
    ageing_s: float = Field(
        default=60.0, gt=0, description="Seconds of waiting that count for one priority step"
    )
    promote_after_s: float = Field(
        default=300.0, gt=0, description="Seconds after which batch work counts as interactive"
    )
    weights: dict[Name, Positive] = Field(
        default_factory=dict, description="Tenant → share under `fair_share`; others have 1"
    )
    keep_free: float = Field(
        default=0.1,
        ge=0,
        le=0.5,
        description="`fair_share`: share of slots for tenants that want less than their share",
    )
    catch_up: float = Field(
        default=2.0,
        ge=0,
        le=100,
        description="`fair_share`: times all slots that a tenant may catch up on after idle time",
    )
    limits: tuple[KeyLimit, ...] = Field(
        default=(), description="Limits by key: `name`, `key`, `concurrency`, `rate_per_s`, `burst`"
    )
    providers: tuple[Provider, ...] = Field(
        default=(), description="Headroom: `key`, `requests_per_minute`, `tokens_per_minute`"
    )

    @field_validator("policy")
    @classmethod
    def _is_built_in(cls, name: str) -> str:
        if name not in BUILTIN:
            raise ValueError(f"not one of {', '.join(sorted(BUILTIN))}")
        return name

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        for what, names in (
            ("limits", [it.name for it in self.limits]),
            ("providers", [it.key for it in self.providers]),
        ):
            if len(set(names)) < len(names):
                raise ValueError(f"{what}: a name may stand there once")
        return self

    def builtin(self) -> Builtin:
        """Give the policy of the platform."""
        return BUILTIN[self.policy]

    def config(self) -> Config:
        """Give what a scripted policy may know of this."""
        return Config(
            queue_capacity=self.queue_capacity,
            full_policy=self.full_policy,
            ageing_ms=int(self.ageing_s * 1000),
            promote_after_ms=int(self.promote_after_s * 1000),
        )

    def limit_rules(self) -> list[LimitRule]:
        """Give the limits as the queue has them."""
        return [LimitRule(**_fields(it)) for it in self.limits]

    def provider_limits(self) -> list[ProviderLimits]:
        """Give what the providers grant."""
        return [ProviderLimits(**_fields(it)) for it in self.providers]


def _fields(of: BaseModel) -> dict[str, Any]:
    return of.model_dump()
