"""What the operator has laid down for single tenants."""

from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from octarm.models.contracts import ResourceBudget

Tasks = Annotated[int, Field(strict=True, ge=1, le=100_000_000)]


class TenantRules(BaseModel):
    """The limits of one tenant; None is no limit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_in_flight: Tasks | None = Field(
        default=None, description="Tasks released to the queue or running at a time; more wait"
    )
    max_open: Tasks | None = Field(
        default=None, description="Tasks that have not ended; more are refused"
    )
    default_budget: ResourceBudget | None = Field(
        default=None, description="The budget of tasks that bring none"
    )

    @property
    def is_limited(self) -> bool:
        """Whether its tasks must be counted."""
        return self.max_in_flight is not None or self.max_open is not None


NO_RULES: Final = TenantRules()


class Tenants:
    """The rules of every tenant; they can be replaced while the process runs."""

    def __init__(self, rules: Mapping[str, TenantRules] | None = None) -> None:
        self._rules: Mapping[str, TenantRules] = rules or {}
        self._limited = self._find_limited()

    def of(self, tenant: str) -> TenantRules:
        """Give a tenant's rules."""
        return self._rules.get(tenant, NO_RULES)

    @property
    def limited(self) -> frozenset[str]:
        """The tenants whose tasks must be counted."""
        return self._limited

    def replace(self, rules: Mapping[str, TenantRules]) -> None:
        """Take other rules from now on."""
        self._rules = rules
        self._limited = self._find_limited()

    def _find_limited(self) -> frozenset[str]:
        return frozenset(name for name, rules in self._rules.items() if rules.is_limited)
