"""All that memory holds: list it, count it, erase what is about somebody."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request

from octarm.gateway.memory_documents import MemoryList, SubjectToErase
from octarm.gateway.routes import openapi
from octarm.gateway.routes.bodies import read_as, read_body, read_large
from octarm.gateway.routes.caller import FromCaller
from octarm.gateway.usecases.ports import Upkeep
from octarm.models.erasure import Erasure, ErasureId, Subject
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

    @router.post("/erasures", status_code=202, openapi_extra=openapi.ERASE)
    async def erase(request: Request, caller: FromCaller) -> Erasure:
        """Begin to erase all that memory has about a tag, a task, or the tenant."""
        given = read_as(SubjectToErase, await read_large(await read_body(request)))
        subject = Subject(tag=given.tag, task_id=given.task_id, everything=given.everything)
        return await upkeep.erase(caller.tenant, subject)

    @router.get("/erasures/{erasure_id}")
    async def get_erasure(
        erasure_id: Annotated[ErasureId, Path(description="The receipt's id")], caller: FromCaller
    ) -> Erasure:
        """Show the receipt of an erasure."""
        return await upkeep.erasure(caller.tenant, erasure_id)

    return router
