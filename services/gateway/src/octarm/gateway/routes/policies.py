"""Policies: keep them, try them, let them decide."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from octarm.gateway.policy_documents import PolicySource, PolicyToSave, Simulation
from octarm.gateway.routes import openapi
from octarm.gateway.routes.bodies import read_as, read_body, read_large
from octarm.gateway.routes.caller import FromCaller, IsOperator, must_be_operator
from octarm.gateway.usecases.ports import Policies
from octarm.models.policies import (
    DifferencesFound,
    PoliciesFound,
    PolicyDeleted,
    PolicyDeployed,
    PolicyName,
    PolicyRef,
    PolicySaved,
    PolicySimulated,
    PolicyValidated,
    PolicyVersion,
    SimulatePolicy,
)

Ref = Annotated[PolicyRef, Path(description="A digest, eight digits of it or more, or a name")]


def policy_routes(
    policies: Policies, is_operator: IsOperator, *, everybody: bool, shards: int
) -> APIRouter:
    """The routes of policies; they decide about every tenant's work, so operators pass.

    With `everybody`, all tenants do (mode `home`).
    """

    async def permitted(caller: FromCaller) -> None:
        if not everybody:
            must_be_operator(caller, is_operator, "in platform mode policies are")

    router = APIRouter(prefix="/v1/policies", tags=["policies"], dependencies=[Depends(permitted)])

    @router.get("", responses=openapi.OPERATORS_ONLY)
    async def list_policies(
        name: Annotated[PolicyName | None, Query(description="Only of this name")] = None,
    ) -> PoliciesFound:
        """List the versions, newest first, and what was deployed."""
        return await policies.list(name)

    @router.get("/{ref}", responses=openapi.OPERATORS_ONLY)
    async def get_policy(ref: Ref) -> PolicyVersion:
        """Show a version with its source."""
        return await policies.get(ref)

    @router.get("/shadow/differences", responses=openapi.OPERATORS_ONLY)
    async def shadow_differences(
        shard: Annotated[int, Query(ge=0, lt=shards, description="Whose leader is asked")] = 0,
    ) -> DifferencesFound:
        """Say how the shadow has differed from what decides, with the last fifty tasks."""
        return await policies.differences(shard)

    _add_trying(router, policies, lambda tenant: None if is_operator(tenant) else tenant)
    _add_changes(router, policies)
    return router


def _add_trying(router: APIRouter, policies: Policies, whose: Callable[[str], str | None]) -> None:
    @router.post("/validate", responses=openapi.OPERATORS_ONLY, openapi_extra=openapi.POLICY_SOURCE)
    async def validate_policy(request: Request) -> PolicyValidated:
        """Say what is wrong with a source, after trying it on samples; nothing is kept."""
        given = read_as(PolicySource, await read_large(await read_body(request)))
        return await policies.validate(given.source, given.kind)

    @router.post("/simulate", responses=openapi.SIMULATED, openapi_extra=openapi.SIMULATION)
    async def simulate_policies(request: Request, caller: FromCaller) -> PolicySimulated:
        """Run policies in virtual time; the answer comes within two minutes."""
        given = read_as(Simulation, await read_large(await read_body(request)))
        return await policies.simulate(
            SimulatePolicy(
                refs=given.refs,
                draft=given.draft.question() if given.draft else None,
                since=given.since,
                until=given.until,
                tenant=whose(caller.tenant),
                load=given.load,
                seed=given.seed,
            )
        )


def _add_changes(router: APIRouter, policies: Policies) -> None:
    @router.post("", responses=openapi.SAVED, openapi_extra=openapi.POLICY)
    async def save_policy(request: Request, caller: FromCaller, response: Response) -> PolicySaved:
        """Keep a source that works; 201 when it is new."""
        given = read_as(PolicyToSave, await read_large(await read_body(request)))
        saved = await policies.named(caller.tenant).save(
            given.name, given.source, kind=given.kind, note=given.note
        )
        response.status_code = 201 if saved.created else 200
        return saved

    @router.post("/rollback", responses=openapi.CHANGED)
    async def roll_back_policy(caller: FromCaller) -> PolicyDeployed:
        """Let the version before decide again."""
        return await policies.named(caller.tenant).roll_back()

    @router.post("/end-shadow", responses=openapi.OPERATORS_ONLY)
    async def end_shadow(caller: FromCaller) -> PolicyDeployed:
        """Ask no version any more beside the one that decides."""
        return await policies.named(caller.tenant).shadow(None)

    @router.post("/{ref}/deploy", responses=openapi.CHANGED)
    async def deploy_policy(ref: Ref, caller: FromCaller) -> PolicyDeployed:
        """Let a version decide from the next cycle on."""
        return await policies.named(caller.tenant).deploy(ref)

    @router.post("/{ref}/shadow", responses=openapi.CHANGED)
    async def shadow_policy(ref: Ref, caller: FromCaller) -> PolicyDeployed:
        """Ask a version too, count how it would differ, and do nothing that it says."""
        return await policies.named(caller.tenant).shadow(ref)

    @router.delete("/{ref}", responses=openapi.CHANGED)
    async def delete_policy(ref: Ref, caller: FromCaller) -> PolicyDeleted:
        """Forget a version that neither decides nor shadows."""
        return await policies.named(caller.tenant).delete(ref)
