"""What tenants have used of the day, and may use, as whoever decides about their tasks asks."""

from pydantic import Field

from octarm.models.commands import Message
from octarm.models.ids import Tenant
from octarm.models.scalars import Count, Instant

MAX_TENANTS = 256


class GetUsage(Message):
    """Ask what these tenants have used today."""

    tenants: list[Tenant] = Field(max_length=MAX_TENANTS)


class TenantUsage(Message):
    """One tenant's day: what attempts of the tasks have cost that were accepted on it."""

    tenant: Tenant
    microdollars: Count = 0
    tokens: Count = 0
    max_in_flight: Count | None = Field(
        default=None, description="Tasks that may be queued or running at a time"
    )


class UsageFound(Message):
    """One entry for each tenant that was asked for, as of `read_at`; the day began at `since`."""

    since: Instant
    read_at: Instant
    tenants: list[TenantUsage] = Field(max_length=MAX_TENANTS)
