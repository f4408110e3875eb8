"""What clients may ask the ledger."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol

from octarm.models.policies import DecisionsFound, FindDecisions
from octarm.models.queries import Cancelled, FindTasks, Outcome, TasksFound, TaskView
from octarm.models.scaling import ArmDemand, GetDemand
from octarm.models.usage import GetUsage, UsageFound


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


class Reading(NamedTuple):
    """All that may be asked: about tasks; what was decided, how much work an arm could have.

    `usage` is what tenants have used of the day.
    """

    tasks: Tasks
    decisions: Callable[[FindDecisions], Awaitable[DecisionsFound]]
    demand: Callable[[GetDemand], Awaitable[ArmDemand]]
    usage: Callable[[GetUsage], Awaitable[UsageFound]]
