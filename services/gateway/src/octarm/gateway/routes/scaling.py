"""What arms are scaled by: for operators, and for the scaler that has a key of theirs."""

from fastapi import APIRouter

from octarm.gateway.documents import ScalingFigures
from octarm.gateway.routes import openapi
from octarm.gateway.routes.caller import FromCaller, IsOperator, must_be_operator
from octarm.gateway.routes.fleet import ArmPath
from octarm.gateway.usecases.ports import Arms, Tasks
from octarm.models.scaling import GetDemand


def scaling_routes(arms: Arms, tasks: Tasks, is_operator: IsOperator) -> APIRouter:
    """The route that scalers poll; its figures are of all tenants, so only operators pass."""
    router = APIRouter(prefix="/v1/scaling", tags=["scaling"])

    @router.get("/{arm_id}", responses=openapi.OPERATORS_ONLY)
    async def get_scaling(arm_id: ArmPath, caller: FromCaller) -> ScalingFigures:
        """Say how much work there is for an arm, in slots, and how many instances that makes."""
        must_be_operator(caller, is_operator, "these figures are")
        arm = (await arms.get(arm_id)).arm
        wanted = GetDemand(
            arm_id=arm_id, capabilities=sorted(arm.capabilities), takes_any=arm.takes_any
        )
        return ScalingFigures.of(await tasks.demand(wanted), arm.slots)

    return router
