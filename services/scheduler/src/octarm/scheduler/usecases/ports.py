"""What the use cases need from outside."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from octarm.common.bus.publisher import Outgoing, PubAck
from octarm.models.errors import OctarmError


class Bus(Protocol):
    """Publishes to streams; each answer is an acknowledgement or what went wrong."""

    async def publish_many(self, messages: Sequence[Outgoing]) -> list[PubAck | OctarmError]:
        """Publish pipelined; answers come in the same order."""
        ...


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
