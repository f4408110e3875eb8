"""All that memory holds: list it, count it."""

from typing import Annotated

from fastapi import APIRouter, Query

from octarm.gateway.memory_documents import MemoryList
from octarm.gateway.routes.caller import FromCaller
from octarm.gateway.usecases.ports import Upkeep
from octarm.models.upkeep import ListMemories, MemoriesListed, MemoryCounts


def upkeep_routes(upkeep: Upkeep) -> APIRouter:
    """The routes."""
    router = APIRouter(prefix="/v1/memory", tags=["memory"])

    @router.get("/semantic")
    async def list_memories(
        caller: FromCaller, only: Annotated[MemoryList, Query()]
    ) -> MemoriesListed:
        """List memories by id, without their contents and without history."""
        return await upkeep.list(
            ListMemories(
                tenant=caller.tenant,
                tags=only.tag,
                entity_type=only.type,
                after=only.after,
                limit=only.limit,
            )
        )

    @router.get("/stats")
    async def count_memories(caller: FromCaller) -> MemoryCounts:
        """Count what the tenant's memory holds."""
        return await upkeep.count(caller.tenant)

    return router
