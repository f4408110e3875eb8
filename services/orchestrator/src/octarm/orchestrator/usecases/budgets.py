"""What arms spend, as they tell it, and budgets that nobody settled."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from octarm.common.telemetry.logs import get_logger
from octarm.models import hot

log = get_logger()


class Spending(Protocol):
    """Where spend is written."""

    async def meter(self, reports: Sequence[hot.SpendReported]) -> int:
        """Write and book calls in one transaction; a call told again changes nothing."""
        ...

    async def settle_ended(self) -> int:
        """Settle budgets of ended tasks."""
        ...


@dataclass(frozen=True, slots=True)
class MeterSpend:
    """Books what calls have cost while their attempt still runs, or after it was given up."""

    spending: Spending

    async def __call__(self, reports: Sequence[hot.SpendReported]) -> None:
        """Write one batch of reports; idempotent by (task, attempt, call_no)."""
        if reports:
            await self.spending.meter(reports)


@dataclass(frozen=True, slots=True)
class SettleBudgets:
    """Gives back what tasks hold that ended on a way that did not settle them."""

    spending: Spending

    async def __call__(self) -> None:
        """Settle at most 500; the next turn takes the others."""
        if number := await self.spending.settle_ended():
            log.warning("budgets_settled_late", number=number)
