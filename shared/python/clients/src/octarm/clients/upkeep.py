"""Ask the memory service: what is there, how much, and to erase what is about somebody."""

from dataclasses import dataclass

from nats.aio.client import Client

from octarm.common.bus.requests import ask
from octarm.models import subjects
from octarm.models.erasure import EraseSubject, Erasure, GetErasure, Subject
from octarm.models.upkeep import CountMemories, ListMemories, MemoriesListed, MemoryCounts


@dataclass(frozen=True, slots=True)
class UpkeepClient:
    """Requests about all of a tenant's memory over a connection that somebody else closes.

    Each method raises the `OctarmError` that was answered, `Unavailable` when nobody answers,
    or `TimedOut` after `timeout_s` seconds; to count all may take twice that.
    """

    nc: Client
    timeout_s: float = 10.0

    async def list(self, query: ListMemories) -> MemoriesListed:
        """Give a page of memories, in the order of their ids, without their contents."""
        return await ask(self.nc, subjects.LIST_MEMORIES, query, timeout_s=self.timeout_s)

    async def count(self, tenant: str) -> MemoryCounts:
        """Count what a tenant's memory holds."""
        message = CountMemories(tenant=tenant)
        return await ask(self.nc, subjects.COUNT_MEMORIES, message, timeout_s=2 * self.timeout_s)

    async def erase(self, tenant: str, subject: Subject) -> Erasure:
        """Begin to erase all about a subject; while one is under way it is given again."""
        message = EraseSubject(tenant=tenant, subject=subject)
        return await ask(self.nc, subjects.ERASE_SUBJECT, message, timeout_s=self.timeout_s)

    async def erasure(self, tenant: str, erasure_id: str) -> Erasure:
        """Show a receipt.

        Raises:
            NotFound: the tenant has no such receipt.
        """
        message = GetErasure(tenant=tenant, erasure_id=erasure_id)
        return await ask(self.nc, subjects.GET_ERASURE, message, timeout_s=self.timeout_s)
