"""What the use cases need of the stores; `storage` fills the roles."""

from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple, Protocol

from octarm.memory.domain.entries import Entry
from octarm.memory.domain.episode import Episode
from octarm.memory.domain.paging import Question
from octarm.models.hot_episodes import KeptWrite

Key = tuple[str, str]
"""Tenant and episode id."""


class FrontDown(Exception):
    """Redis does not answer now, or is not to be trusted."""


class Kept(NamedTuple):
    """An episode as Postgres has it: the base and its entries by id."""

    base: Episode
    entries: Mapping[str, Entry]


class Landed(IntEnum):
    """What became of a write in front."""

    CREATED = 1
    KNOWN = 0
    ABSENT = -1
    """The episode is not in front (any more): nothing was written."""
    CLOSED = -2
    FULL = -3
    GONE = -4
    """It has been forgotten."""


class Cached(NamedTuple):
    """What is in front: the JSON of the episode, or that it has been forgotten."""

    body: bytes | None
    gone: bool = False


class Episodes(Protocol):
    """Where episodes are kept for good. All raise `Unavailable` when it does not answer."""

    async def add(self, episodes: Sequence[Episode]) -> Mapping[str, str]:
        """Keep these; one that is known already stays as it is, a forgotten one stays away.

        Gives episode id → reason for those that can never be kept.
        """
        ...

    async def get(self, tenant: str, episode_id: str) -> Kept | None:
        """Give a tenant's episode."""
        ...

    async def find(self, question: Question, *, after: str | None, limit: int) -> list[Kept]:
        """Give a tenant's episodes by id, descending, from below `after`."""
        ...


class Entries(Protocol):
    """Where writes are kept for good. All raise `Unavailable` when it does not answer."""

    async def keep(self, writes: Sequence[KeptWrite]) -> Mapping[int, str]:
        """Keep these, once each; gives place → reason for those that can never be kept."""
        ...

    async def bury(self, tenant: str, episode_id: str) -> None:
        """Let nothing of an episode be kept, or shown, any more."""
        ...

    async def delete(self, tenant: str, episode_id: str) -> bool:
        """Delete an episode and its entries; tells whether there was anything."""
        ...


class Front(Protocol):
    """A cache in front. All raise `FrontDown` when it does not answer."""

    async def write(self, writes: Sequence[KeptWrite]) -> list[Landed]:
        """Write to the episodes that are here; an opening makes one."""
        ...

    async def get(self, tenant: str, episode_id: str) -> Cached | None:
        """Give what is here; None when there is nothing, or nothing that can be used."""
        ...

    def begin_get(self, key: Key, tell: Callable[[Cached | None], None]) -> bool:
        """Have `tell` called with the same; it is None also when the cache does not answer.

        False: it cannot be asked now, and `tell` is not called.
        """
        ...

    async def lease(self, tenant: str, episode_id: str) -> str:
        """Begin to fill: gives a token, which any write to the episode makes void."""
        ...

    async def fill(self, found: Kept, token: str) -> bool:
        """Keep what was found, unless it was written to since the lease."""
        ...

    async def drop(self, keys: Sequence[Key]) -> None:
        """Take these away; what is not reached is not trusted any more."""
        ...

    async def bury(self, tenant: str, episode_id: str) -> None:
        """Take an episode away and let none of its writes in."""
        ...


class Stream(Protocol):
    """The durable way to Postgres."""

    async def keep(self, writes: Sequence[KeptWrite]) -> None:
        """Hand these over. Raises `OctarmError`; some may be on their way all the same."""
        ...

    async def drained(self, within_s: float) -> bool:
        """Wait until Postgres has all that was handed over before; false when that takes longer."""
        ...


class Ageing(Protocol):
    """Where old episodes are deleted. All raise `Unavailable` when it does not answer."""

    async def forget(self, *, days: int, retention: str) -> int:
        """Delete some of a class that are older; gives their number."""
        ...

    async def sweep(self) -> None:
        """Delete what belongs to no episode any more."""
        ...
