"""What clients may ask the ledger."""

from typing import NamedTuple, Protocol

from octarm.models.policies import DecisionsFound, FindDecisions
from octarm.models.queries import Cancelled, FindTasks, Outcome, TasksFound, TaskView
from octarm.models.scaling import ArmDemand, GetDemand
from octarm.models.usage import UsageFound


class Tasks(Protocol):
    """Answers questions about tasks; a tenant sees only its own."""

    async def get(self, tenant: str, task_id: str) -> TaskView | None:
        """Show one task with its attempts."""

    async def find(self, wanted: FindTasks) -> TasksFound:
        """Give one page, newest first."""

    async def outcomes(self, tenant: str, task_ids: list[str]) -> list[Outcome]:
        """Say where these tasks stand; unknown ones are left out."""

    async def called_off(self, tenant: str, task_id: str) -> Cancelled | None:
        """Say where a task stands, and every task below it."""


class Decisions(Protocol):
    """Answers what was decided in the past."""

    async def find(self, wanted: FindDecisions) -> DecisionsFound:
        """Give one page, oldest first."""


class Usage(Protocol):
    """Answers what tenants have used of the day."""

    async def of(self, tenants: list[str]) -> UsageFound:
        """Say it for each of them."""


class Demand(Protocol):
    """Answers how much work there is."""

    async def of(self, arm: GetDemand) -> ArmDemand:
        """Say how much of it an arm could run or has."""


class Reading(NamedTuple):
    """All that may be asked."""

    tasks: Tasks
    decisions: Decisions
    demand: Demand
    usage: Usage
