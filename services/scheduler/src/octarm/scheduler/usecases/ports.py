"""What the use cases need from outside."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Pending:
    """A run command that nobody has taken; `seq` is where it stands in DISPATCH."""

    task_id: str
    attempt: int
    seq: int
    slots: int = 1


@dataclass(frozen=True, slots=True)
class Recorded:
    """The ledger has recorded DISPATCH up to a sequence, and perhaps all that it holds."""

    up_to: int
    all_of_it: bool


class Dispatched(Protocol):
    """Looks into the DISPATCH stream; each method raises `Unavailable` when it cannot."""

    async def pending(self, arm_id: str) -> list[Pending]:
        """List the attempts of an arm that none of its instances has taken."""
        ...

    async def started_below(self, arm_id: str) -> int | None:
        """Give the sequence below which the arm has taken everything; None: everything."""
        ...

    async def recorded(self) -> "Recorded":
        """Say how far the ledger has recorded it."""
        ...

    async def last_seq(self) -> int:
        """Give the sequence of the newest message."""
        ...

    async def forget_leaders(self, shard: int) -> None:
        """Remove what earlier leaders of the shard have led by."""
        ...
