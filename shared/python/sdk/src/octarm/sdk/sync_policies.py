"""SyncPolicies: policies for scripts that are not async."""

from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from octarm.clients.policies import PolicyClient
from octarm.models.policies import (
    DifferencesFound,
    PoliciesFound,
    PolicyDeleted,
    PolicyDeployed,
    PolicyKind,
    PolicySaved,
    PolicySimulated,
    PolicyValidated,
    PolicyVersion,
    SimulatePolicy,
)

T = TypeVar("T")


class Calls(Protocol):
    """Runs a coroutine elsewhere and gives its result."""

    def __call__(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run it."""
        ...


@dataclass(frozen=True, slots=True)
class SyncPolicies:
    """Every method does and raises what the method of that name of `PolicyClient` does."""

    client: PolicyClient
    call: Calls

    def save(
        self, name: str, source: str, *, kind: PolicyKind = "starlark", note: str = ""
    ) -> PolicySaved:
        """Keep a version."""
        return self.call(self.client.save(name, source, kind=kind, note=note))

    def validate(self, source: str, kind: PolicyKind = "starlark") -> PolicyValidated:
        """Say what is wrong with a source."""
        return self.call(self.client.validate(source, kind))

    def list(self, name: str | None = None) -> PoliciesFound:
        """List versions and deployments."""
        return self.call(self.client.list(name))

    def get(self, ref: str) -> PolicyVersion:
        """Show a version."""
        return self.call(self.client.get(ref))

    def deploy(self, ref: str) -> PolicyDeployed:
        """Let a version decide."""
        return self.call(self.client.deploy(ref))

    def shadow(self, ref: str | None) -> PolicyDeployed:
        """Ask a version too; None ends that."""
        return self.call(self.client.shadow(ref))

    def differences(self, shard: int = 0) -> DifferencesFound:
        """Say how the shadow has differed from what decides."""
        return self.call(self.client.differences(shard))

    def roll_back(self) -> PolicyDeployed:
        """Let the version before decide."""
        return self.call(self.client.roll_back())

    def delete(self, ref: str) -> PolicyDeleted:
        """Forget a version."""
        return self.call(self.client.delete(ref))

    def simulate(self, wanted: SimulatePolicy) -> PolicySimulated:
        """Run policies in virtual time."""
        return self.call(self.client.simulate(wanted))
