"""What the fleet knows: remember, search, show, forget."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path, Query, Request

from octarm.gateway.memory_documents import MemoriesToKeep, MemorySearch
from octarm.gateway.routes import openapi
from octarm.gateway.routes.bodies import read_as, read_body, read_large
from octarm.gateway.routes.caller import FromCaller, IsOperator, must_be_operator
from octarm.gateway.usecases.ports import Knowledge
from octarm.models.ids import MemoryId
from octarm.models.semantic import (
    MemoriesFound,
    MemoryForgotten,
    MemoryFound,
    Reembedding,
    Remembered,
    SearchMemory,
)

# It travels in one message.
MAX_REMEMBER_BYTES: Final = 768 * 1024
MemoryPath = Annotated[MemoryId, Path(description="The memory's id")]


def knowledge_routes(knowledge: Knowledge, is_operator: IsOperator) -> APIRouter:
    """The routes of semantic memory."""
    router = APIRouter(prefix="/v1/memory", tags=["memory"])

    @router.post("/remember", openapi_extra=openapi.REMEMBER)
    async def remember(request: Request, caller: FromCaller) -> Remembered:
        """Keep memories; each is answered on its own, in order."""
        body = await read_body(request, MAX_REMEMBER_BYTES)
        given = read_as(MemoriesToKeep, await read_large(body))
        answers = await knowledge.remember(caller.tenant, given.source, given.memories)
        return Remembered(answers=answers)

    @router.post("/search", openapi_extra=openapi.SEARCH)
    async def search_memory(request: Request, caller: FromCaller) -> MemoriesFound:
        """Find memories by words and by meaning; each hit says why it stands where it stands."""
        given = read_as(MemorySearch, await read_large(await read_body(request)))
        asked = {name: getattr(given, name) for name in type(given).model_fields}
        return await knowledge.search(SearchMemory(tenant=caller.tenant, **asked))

    @router.get("/semantic/{memory_id}")
    async def get_memory(
        memory_id: MemoryPath,
        caller: FromCaller,
        history: Annotated[bool, Query(description="With what it superseded and took in")] = False,
    ) -> MemoryFound:
        """Show a memory."""
        return await knowledge.get(caller.tenant, memory_id, history=history)

    @router.delete("/semantic/{memory_id}")
    async def forget_memory(memory_id: MemoryPath, caller: FromCaller) -> MemoryForgotten:
        """Delete a memory, its history and what was merged into it."""
        return MemoryForgotten(deleted=await knowledge.forget(caller.tenant, memory_id))

    router.include_router(_reembedding_routes(knowledge, is_operator))
    return router


def _reembedding_routes(knowledge: Knowledge, is_operator: IsOperator) -> APIRouter:
    """The routes of the job that makes all vectors anew, every tenant's."""

    async def operators_only(caller: FromCaller) -> None:
        must_be_operator(caller, is_operator, "vectors of all tenants are")

    router = APIRouter(prefix="/reembedding", dependencies=[Depends(operators_only)])

    @router.get("", responses=openapi.OPERATORS_ONLY)
    async def get_reembedding() -> Reembedding:
        """Say how many memories lack a vector of the embedder in use, and how far the job is."""
        return await knowledge.reembed()

    @router.post("", status_code=202, responses=openapi.OPERATORS_ONLY)
    async def reembed() -> Reembedding:
        """Have all vectors made by the embedder in use; what is under way goes on."""
        return await knowledge.reembed(start=True)

    return router
