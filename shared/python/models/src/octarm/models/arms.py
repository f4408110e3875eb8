"""Arms: what they declare, how they beat, how the registry sees them."""

from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    JsonValue,
    StringConstraints,
)

from octarm.models.contracts import LabelKey, LabelValue, RetryPolicy
from octarm.models.ids import ArmId, Tags, TaskId, Token
from octarm.models.scalars import MAX_SLOTS, Attempt, Count, Instant, Share, Slots

ArmStatus = Literal["online", "degraded", "draining", "offline"]
SemVer = Annotated[
    str,
    StringConstraints(
        pattern=r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$",
        max_length=64,
    ),
]


class ArmCapability(BaseModel):
    """What an arm declares when it registers."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    arm_id: ArmId
    name: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    description: Annotated[str, StringConstraints(max_length=500)] = ""
    version: SemVer = "0.1.0"
    capabilities: Tags = Field(min_length=1, max_length=100)
    takes_any: bool = Field(
        default=True, description="Whether it takes tasks that name no capability"
    )
    input_schema: dict[str, JsonValue] = Field(
        default_factory=dict, description="JSON Schema 2020-12 of the task's context"
    )
    output_schema: dict[str, JsonValue] = Field(default_factory=dict)
    cost_tier: int = Field(default=1, ge=1, le=5, strict=True)
    slots: int = Field(default=10, ge=1, le=MAX_SLOTS, strict=True, description="Per instance")
    timeout_seconds: int = Field(default=30, ge=1, le=1800, strict=True, description="Seconds")
    retry_policy: RetryPolicy = RetryPolicy()
    endpoint: HttpUrl | None = None
    health_check_url: HttpUrl | None = None
    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict, max_length=20)


class RunningAttempt(BaseModel):
    """One attempt that an instance works on."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    task_id: TaskId
    attempt: Attempt
    slots: Slots = 1


class Heartbeat(BaseModel):
    """A sign of life of one instance, on core NATS; the server's clock dates it."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    arm_id: ArmId
    instance_id: Token
    seq: Count = Field(description="Counts the beats of this instance")
    status: Literal["ready", "draining"]
    slots: int = Field(ge=0, le=MAX_SLOTS, strict=True)
    running: list[RunningAttempt] = Field(max_length=MAX_SLOTS)
    load: Share = 0.0
    avg_latency_ms: float = Field(default=0.0, ge=0, strict=True, description="Milliseconds")
    error_rate: Share = 0.0
    uptime_s: float = Field(default=0.0, ge=0, strict=True, description="Seconds")
    interval_s: float = Field(
        default=5.0, gt=0, le=60, strict=True, description="Seconds until the next one"
    )
    host: Annotated[str, StringConstraints(max_length=255)] = ""
    provider_wait_s: float = Field(
        default=0.0, ge=0, strict=True, description="Seconds for which its provider wants nothing"
    )


class InstanceInfo(BaseModel):
    """One instance as the registry last saw it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    instance_id: Token
    status: Literal["ready", "draining"]
    slots: Count
    running: Count
    host: str = ""
    interval_s: float = Field(default=5.0, gt=0, le=60, description="Seconds between its beats")
    seen_at: Instant


class ArmRecord(BaseModel):
    """One arm in the directory: the key's value in the KV bucket `octarm_arms`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    arm: ArmCapability
    status: ArmStatus
    reason: str = Field(default="", description="Why it is not online")
    instances: list[InstanceInfo] = Field(default_factory=list)
    registered_at: Instant
    changed_at: Instant
    owner: str = Field(default="", description="SHA-256 of the registering key; empty: unowned")
    drain_requested: bool = Field(
        default=False, description="Asked for; registering while offline ends it"
    )


class PoolInfo(BaseModel):
    """The view of an arm's instances on one host."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    pool_id: ArmId
    host: str
    status: ArmStatus
    capabilities: Tags
    instances: Count
