"""Ask the memory service: what the fleet knows."""

from collections.abc import Sequence
from dataclasses import dataclass

from nats.aio.client import Client

from octarm.common.bus.requests import ask
from octarm.models import subjects
from octarm.models.semantic import (
    ForgetMemory,
    GetMemory,
    MemoriesFound,
    MemoryFound,
    NewMemory,
    Reembedding,
    ReembedMemories,
    Remember,
    RememberAnswer,
    SearchMemory,
)


@dataclass(frozen=True, slots=True)
class SemanticClient:
    """Requests about semantic memory over a connection that somebody else closes.

    Each method raises the `OctarmError` that was answered, `Unavailable` when nobody answers,
    or `TimedOut` after `timeout_s` seconds; to remember many may take twice that. `arm_id` is
    who reads: what that arm may see is all it is shown; None is the tenant itself.
    """

    nc: Client
    timeout_s: float = 10.0

    async def remember(
        self, tenant: str, source: str, memories: Sequence[NewMemory]
    ) -> list[RememberAnswer]:
        """Keep up to 500; one answer each, in order. Idempotent by id, else by content."""
        message = Remember(tenant=tenant, source=source, memories=list(memories))
        answer = await ask(self.nc, subjects.REMEMBER, message, timeout_s=2 * self.timeout_s)
        return answer.answers

    async def search(self, query: SearchMemory) -> MemoriesFound:
        """Find the memories that fit best, each with the reasons of its rank."""
        return await ask(self.nc, subjects.SEARCH_MEMORY, query, timeout_s=self.timeout_s)

    async def get(
        self, tenant: str, memory_id: str, *, arm_id: str | None = None, history: bool = False
    ) -> MemoryFound:
        """Show one.

        Raises:
            NotFound: the tenant has no such memory, or the arm may not see it.
        """
        message = GetMemory(tenant=tenant, arm_id=arm_id, memory_id=memory_id, history=history)
        return await ask(self.nc, subjects.GET_MEMORY, message, timeout_s=self.timeout_s)

    async def forget(self, tenant: str, memory_id: str, *, arm_id: str | None = None) -> int:
        """Delete one and what was merged into it; gives the number of rows. Idempotent."""
        message = ForgetMemory(tenant=tenant, arm_id=arm_id, memory_id=memory_id)
        answer = await ask(self.nc, subjects.FORGET_MEMORY, message, timeout_s=self.timeout_s)
        return answer.deleted

    async def reembed(self, *, start: bool = False) -> Reembedding:
        """Tell how far vectors of the present embedder are; `start` has all others made anew."""
        message = ReembedMemories(start=start)
        return await ask(self.nc, subjects.REEMBED, message, timeout_s=self.timeout_s)
