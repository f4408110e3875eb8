"""What the use cases need from outside."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Pending:
    """A run command that nobody has started; `seq` is its sequence in DISPATCH."""

    task_id: str
    attempt: int
    seq: int


class Dispatched(Protocol):
    """Looks into the DISPATCH stream; each method raises `Unavailable` when it cannot."""

    async def pending(self, arm_id: str) -> list[Pending]:
        """List the run commands of an arm that nobody has started."""
        ...

    async def started_below(self, arm_id: str) -> int | None:
        """Give the sequence below which the arm has started everything; None: everything."""
        ...

    async def arm_of(self, seq: int) -> str | None:
        """Say to which arm a run command went; None once it has been started."""
        ...
