"""What the use cases need from outside."""

from collections.abc import Iterable
from typing import Protocol

from octarm.arm_registry.domain.fleet import Stored
from octarm.models.arms import ArmRecord
from octarm.models.events import ArmEvent


class ChangedMeanwhile(Exception):
    """Somebody else wrote this entry first: read it again."""


class Directory(Protocol):
    """The arm directory. Every write names the revision that it replaces.

    All raise `Unavailable` when the directory cannot be reached; a write may have landed then.
    """

    async def get(self, arm_id: str) -> Stored | None:
        """Give one arm, None when there is none."""
        ...

    async def all(self) -> dict[str, Stored]:
        """Give every arm by its id."""
        ...

    async def create(self, record: ArmRecord) -> Stored:
        """Add an arm.

        Raises:
            ChangedMeanwhile: it exists.
        """
        ...

    async def replace(self, stored: Stored, record: ArmRecord) -> Stored:
        """Put `record` in place of `stored`.

        Raises:
            ChangedMeanwhile: it is no longer what is there.
        """
        ...

    async def remove(self, stored: Stored) -> None:
        """Delete an arm.

        Raises:
            ChangedMeanwhile: it is no longer what is there.
        """
        ...


class Consumers(Protocol):
    """The consumers by which arms get their work."""

    async def ensure(self, arm_id: str) -> None:
        """Create the arm's consumer unless it exists.

        Raises:
            Unavailable: the bus does not answer.
        """
        ...

    async def restore(self, arm_ids: Iterable[str]) -> list[str]:
        """Create the consumers that these arms lack; gives the arms that lacked one.

        Raises:
            Unavailable: the bus does not answer, or has no stream for them.
        """
        ...


class Announcer(Protocol):
    """Tells the world; never fails, tries again until the bus has it."""

    def announce(self, event: ArmEvent) -> None:
        """Hand an event over; the same event twice is told once."""
        ...
