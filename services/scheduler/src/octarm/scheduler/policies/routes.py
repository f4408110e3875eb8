"""Questions about policies: translation only. Any instance answers, whatever it leads."""

from typing import Final

from faststream.nats import NatsRouter

from octarm.common.bus.requests import answer
from octarm.models.policies import (
    DeletePolicy,
    DeployPolicy,
    EndShadow,
    GetPolicy,
    ListPolicies,
    PoliciesFound,
    PolicyDeleted,
    PolicyDeployed,
    PolicySaved,
    PolicySimulated,
    PolicyValidated,
    PolicyVersion,
    RollBackPolicy,
    SavePolicy,
    SimulatePolicy,
    ValidatePolicy,
)
from octarm.models.subjects import (
    DELETE_POLICY,
    DEPLOY_POLICY,
    END_SHADOW,
    GET_POLICY,
    LIST_POLICIES,
    ROLL_BACK_POLICY,
    SAVE_POLICY,
    SIMULATE_POLICY,
    VALIDATE_POLICY,
)
from octarm.policies.desk.desk import PolicyDesk
from octarm.policies.desk.simulating import Simulate

QUEUE: Final = "scheduler"


def policy_questions(desk: PolicyDesk, simulate: Simulate) -> NatsRouter:
    """The subscriptions; nothing connects until a broker includes them."""
    router = NatsRouter()

    @answer(router, SAVE_POLICY, queue=QUEUE)
    async def save_policy(query: SavePolicy) -> PolicySaved:
        return await desk.save(query)

    @answer(router, VALIDATE_POLICY, queue=QUEUE)
    async def validate_policy(query: ValidatePolicy) -> PolicyValidated:
        return await desk.validate(query)

    @answer(router, LIST_POLICIES, queue=QUEUE)
    async def list_policies(query: ListPolicies) -> PoliciesFound:
        return await desk.list(query)

    @answer(router, GET_POLICY, queue=QUEUE)
    async def get_policy(query: GetPolicy) -> PolicyVersion:
        return await desk.get(query)

    @answer(router, DEPLOY_POLICY, queue=QUEUE)
    async def deploy_policy(query: DeployPolicy) -> PolicyDeployed:
        return await desk.deploy(query)

    @answer(router, END_SHADOW, queue=QUEUE)
    async def end_shadow(query: EndShadow) -> PolicyDeployed:
        return await desk.end_shadow(query)

    @answer(router, ROLL_BACK_POLICY, queue=QUEUE)
    async def roll_back_policy(query: RollBackPolicy) -> PolicyDeployed:
        return await desk.roll_back(query)

    @answer(router, DELETE_POLICY, queue=QUEUE)
    async def delete_policy(query: DeletePolicy) -> PolicyDeleted:
        return await desk.delete(query)

    @answer(router, SIMULATE_POLICY, queue=QUEUE)
    async def simulate_policy(query: SimulatePolicy) -> PolicySimulated:
        return await simulate(query)

    return router
