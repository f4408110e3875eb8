"""The orchestrator's settings."""

from typing import ClassVar

from pydantic import Field, SecretStr

from octarm.common.service import ServiceSettings
from octarm.ledger.domain.tenants import TenantRules
from octarm.models.ids import Tenant
from octarm.models.subjects import MAX_SHARDS


class Settings(ServiceSettings):
    """What the orchestrator reads at its start."""

    section: ClassVar[str] = "orchestrator"

    postgres_url: SecretStr = Field(description="The ledger; postgresql://…")
    shards: int = Field(default=1, ge=1, le=MAX_SHARDS, description="The same in every service")
    dispatch_lease_s: float = Field(
        default=15.0, gt=0, le=600, description="Seconds an attempt may stay without a start"
    )
    max_open_tasks: int = Field(
        default=200_000,
        ge=1,
        le=10_000_000,
        description="Waiting and queued tasks past which fresh ones are refused (429)",
    )
    max_outbox_rows: int = Field(
        default=20_000,
        ge=1,
        le=1_000_000,
        description="Commits that the bus has not taken past which fresh tasks are refused (429)",
    )
    retention_days: int = Field(
        default=90, ge=1, le=3650, description="Days for which ended tasks and their history stay"
    )
    tenants: dict[Tenant, TenantRules] = Field(
        default_factory=dict,
        description="JSON object of tenant → `max_in_flight`, `max_open`, `default_budget`;"
        " read again at SIGHUP",
    )
