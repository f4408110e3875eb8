"""Ask a scheduler about policies: what there is, what is wrong with one, which one decides."""

from dataclasses import dataclass, replace
from typing import Any, Final, Self, TypeVar

from nats.aio.client import Client
from pydantic import BaseModel, ValidationError

from octarm.common.bus.requests import ask
from octarm.models import subjects
from octarm.models.errors import InvalidRequest, field_errors
from octarm.models.policies import (
    DeletePolicy,
    DeployPolicy,
    DifferencesFound,
    EndShadow,
    GetDifferences,
    GetPolicy,
    ListPolicies,
    PoliciesFound,
    PolicyDeleted,
    PolicyDeployed,
    PolicyKind,
    PolicySaved,
    PolicySimulated,
    PolicyValidated,
    PolicyVersion,
    RollBackPolicy,
    SavePolicy,
    SimulatePolicy,
    ValidatePolicy,
)
from octarm.models.subjects import Query

M = TypeVar("M", bound=BaseModel)
R = TypeVar("R", bound=BaseModel)
# What answering may take: a source is tried on samples, or run through a day of tasks.
VALIDATION_S: Final = 20.0
SIMULATION_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class PolicyClient:
    """Requests to any scheduler, over a connection that somebody else closes.

    A `ref` is a digest, eight digits of it or more, or a name. Each method raises `InvalidRequest`
    for what no policy can be called, the `OctarmError` that was answered, or `Unavailable`.
    `by` is who does it, for the record.
    """

    nc: Client
    by: str = "client"
    timeout_s: float = 5.0

    def named(self, by: str) -> Self:
        """Act in this name."""
        return replace(self, by=by)

    async def save(
        self, name: str, source: str, *, kind: PolicyKind = "starlark", note: str = ""
    ) -> PolicySaved:
        """Keep a version; the same source again is the same version.

        Raises:
            InvalidRequest: something is wrong with the source; `errors` names the lines.
        """
        wanted = _made(SavePolicy, name=name, kind=kind, source=source, by=self.by, note=note)
        return await self._ask(subjects.SAVE_POLICY, wanted, VALIDATION_S)

    async def validate(self, source: str, kind: PolicyKind = "starlark") -> PolicyValidated:
        """Say what is wrong with a source, after trying it on samples; nothing is kept."""
        wanted = _made(ValidatePolicy, source=source, kind=kind)
        return await self._ask(subjects.VALIDATE_POLICY, wanted, VALIDATION_S)

    async def list(self, name: str | None = None) -> PoliciesFound:
        """List the versions (of that name), newest first, and what was deployed."""
        return await self._ask(subjects.LIST_POLICIES, _made(ListPolicies, name=name))

    async def get(self, ref: str) -> PolicyVersion:
        """Show a version with its source.

        Raises:
            NotFound, Conflict: the ref means no version, or several.
        """
        return await self._ask(subjects.GET_POLICY, _made(GetPolicy, ref=ref))

    async def deploy(self, ref: str) -> PolicyDeployed:
        """Let a version decide from the next cycle on; again is the same."""
        return await self._ask(subjects.DEPLOY_POLICY, _made(DeployPolicy, ref=ref, by=self.by))

    async def shadow(self, ref: str | None) -> PolicyDeployed:
        """Ask a version too, without doing what it says; None ends that."""
        if ref is None:
            return await self._ask(subjects.END_SHADOW, EndShadow(by=self.by))
        wanted = _made(DeployPolicy, ref=ref, by=self.by, shadow=True)
        return await self._ask(subjects.DEPLOY_POLICY, wanted)

    async def differences(self, shard: int = 0) -> DifferencesFound:
        """Say how the shadow has differed from what decides, at the leader of a shard."""
        wanted = _made(GetDifferences, shard=shard)
        at = {"shard": shard}
        return await ask(
            self.nc, subjects.SHADOW_DIFFERENCES, wanted, timeout_s=self.timeout_s, at=at
        )

    async def roll_back(self) -> PolicyDeployed:
        """Let the version before decide again.

        Raises:
            Conflict: nothing was deployed.
        """
        return await self._ask(subjects.ROLL_BACK_POLICY, RollBackPolicy(by=self.by))

    async def delete(self, ref: str) -> PolicyDeleted:
        """Forget a version; again is the same.

        Raises:
            Conflict: it decides or shadows.
        """
        return await self._ask(subjects.DELETE_POLICY, _made(DeletePolicy, ref=ref, by=self.by))

    async def simulate(self, wanted: SimulatePolicy) -> PolicySimulated:
        """Run policies in virtual time; takes up to two minutes."""
        return await self._ask(subjects.SIMULATE_POLICY, wanted, SIMULATION_S)

    async def _ask(self, query: Query[M, R], message: M, timeout_s: float = 0.0) -> R:
        return await ask(self.nc, query, message, timeout_s=max(timeout_s, self.timeout_s))


def _made(model: type[M], **fields: Any) -> M:
    try:
        return model(**fields)
    except ValidationError as error:
        errors = field_errors(error.errors(include_url=False, include_input=False))
        names = ", ".join(sorted({item.field for item in errors}))
        raise InvalidRequest(f"not accepted: {names}", errors=errors) from None
