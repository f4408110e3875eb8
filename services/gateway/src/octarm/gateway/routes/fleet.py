"""Arms, queues and memory."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request

from octarm.gateway.documents import ArmOwner
from octarm.gateway.routes import openapi
from octarm.gateway.routes.bodies import read_optional
from octarm.gateway.routes.caller import FromCaller
from octarm.gateway.usecases.ports import Arms, Queue
from octarm.models.arms import ArmRecord
from octarm.models.ids import ArmId, Tag
from octarm.models.queries import (
    ArmsFound,
    QueueView,
)

# The digest of an owner's key is nobody's business: a weak key could be guessed from it.
_OWNER: Final = {"owner"}
_OWNERS: Final[Any] = {"arms": {"__all__": _OWNER}}
ArmPath = Annotated[ArmId, Path(description="The arm's id")]


def arm_routes(arms: Arms) -> APIRouter:
    """The routes of the arm directory."""
    router = APIRouter(prefix="/v1/arms", tags=["arms"])

    @router.get("", response_model_exclude=_OWNERS)
    async def list_arms(
        capability: Annotated[list[Tag] | None, Query(max_length=10)] = None,
    ) -> ArmsFound:
        """List the arms that have every one of the given capabilities."""
        return ArmsFound(arms=await arms.find(capability or []))

    @router.get("/{arm_id}", response_model_exclude=_OWNER)
    async def get_arm(arm_id: ArmPath) -> ArmRecord:
        """Show an arm and its instances."""
        return await arms.get(arm_id)

    @router.post("/{arm_id}/drain", response_model_exclude=_OWNER, openapi_extra=openapi.DRAIN)
    async def drain_arm(arm_id: ArmPath, request: Request) -> ArmRecord:
        """Place no more work on an arm; what it runs is finished."""
        owner = await read_optional(request, ArmOwner)
        return await arms.drain(arm_id, owner.key)

    return router


def queue_routes(queue: Queue, shards: int, *, keys_needed: bool) -> APIRouter:
    """The route of the schedulers' queues."""
    router = APIRouter(prefix="/v1/queue", tags=["queue"])

    @router.get("")
    async def get_queue(
        caller: FromCaller, shard: Annotated[int, Query(ge=0, lt=shards)] = 0
    ) -> QueueView:
        """Show what waits at a shard; of the tenants, only yourself."""
        view = await queue.queue(shard)
        if not keys_needed:
            return view
        own = {tenant: n for tenant, n in view.by_tenant.items() if tenant == caller.tenant}
        return view.model_copy(update={"by_tenant": own})

    return router
