"""List and count what a tenant's memory holds."""

from dataclasses import dataclass
from typing import Protocol

from octarm.models.upkeep import (
    CountMemories,
    ListedMemory,
    ListMemories,
    MemoriesListed,
    MemoryCounts,
)


class Stock(Protocol):
    """Where memories are kept. All raise `Unavailable` when it does not answer."""

    async def listed(self, query: ListMemories) -> tuple[list[ListedMemory], bool]:
        """Give the next ones by id, as many as fit a message, and whether there are more."""
        ...

    async def counted(self, tenant: str) -> MemoryCounts:
        """Count them."""
        ...


@dataclass(frozen=True, slots=True)
class ListKnowledge:
    """Page through memories; one that comes or goes meanwhile is listed or not."""

    stock: Stock

    async def __call__(self, query: ListMemories) -> MemoriesListed:
        """
        Raises:
            Unavailable: Postgres does not answer.
        """
        page, more = await self.stock.listed(query)
        return MemoriesListed(memories=page, after=page[-1].memory_id if more else None)


@dataclass(frozen=True, slots=True)
class CountKnowledge:
    """Count memories and episodes."""

    stock: Stock

    async def __call__(self, query: CountMemories) -> MemoryCounts:
        """
        Raises:
            Unavailable: Postgres does not answer.
        """
        return await self.stock.counted(query.tenant)
