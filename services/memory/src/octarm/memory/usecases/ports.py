"""What the use cases need of the stores; `storage` fills the roles."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from octarm.memory.domain.episode import Episode


class FrontDown(Exception):
    """Redis does not answer now."""


class Episodes(Protocol):
    """Where episodes are kept for good. All raise `Unavailable` when it does not answer."""

    async def add(self, episodes: Sequence[Episode]) -> Mapping[str, str]:
        """Keep these; one that is known already stays as it is.

        Gives episode id → reason for those that can never be kept.
        """
        ...

    async def get(self, tenant: str, episode_id: str) -> Episode | None:
        """Give a tenant's episode."""
        ...

    async def find(
        self,
        tenant: str,
        *,
        arm_id: str | None,
        episode_id: str | None,
        after: str | None,
        limit: int,
    ) -> list[Episode]:
        """Give a tenant's episodes by id, descending, from below `after`."""
        ...


class Front(Protocol):
    """A cache in front. All raise `FrontDown` when it does not answer."""

    async def put(self, episodes: Sequence[Episode]) -> None:
        """Keep these for their time."""
        ...

    async def get(self, tenant: str, episode_id: str) -> bytes | None:
        """Give what is there, whatever it is."""
        ...


class Ageing(Protocol):
    """Where old episodes are deleted."""

    async def forget(self, *, days: int) -> int:
        """Delete some that are older; gives their number. Raises `Unavailable`."""
        ...
