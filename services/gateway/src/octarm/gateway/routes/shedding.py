"""The load-shedding switch: operators put it, everybody may see what concerns him."""

from fastapi import APIRouter, Request

from octarm.gateway.documents import SwitchToPut
from octarm.gateway.routes import openapi
from octarm.gateway.routes.bodies import read_as, read_body, read_object
from octarm.gateway.routes.caller import FromCaller, IsOperator, must_be_operator
from octarm.gateway.usecases.ports import Tasks
from octarm.models.shedding import SheddingFound


def shedding_routes(tasks: Tasks, is_operator: IsOperator) -> APIRouter:
    """The routes of the switch."""
    router = APIRouter(prefix="/v1/shedding", tags=["shedding"])

    @router.get("")
    async def get_shedding(caller: FromCaller) -> SheddingFound:
        """Say what is shed now: of the fleet and of yourself; operators see all, and the past."""
        found = await tasks.shedding()
        if is_operator(caller.tenant):
            return found
        return SheddingFound(now=[it for it in found.now if it.tenant in (None, caller.tenant)])

    @router.put("", responses=openapi.OPERATORS_ONLY, openapi_extra=openapi.SHED)
    async def switch_shedding(request: Request, caller: FromCaller) -> SheddingFound:
        """Put the switch of the fleet or of a tenant; orchestrators follow within two seconds."""
        must_be_operator(caller, is_operator, "shedding load is")
        wanted = read_as(SwitchToPut, read_object(await read_body(request)))
        return await tasks.shed(wanted, caller.tenant)

    return router
