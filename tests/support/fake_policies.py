"""The policies of a fleet, in memory; sources that contain `wrong` are."""

from datetime import timedelta
from typing import Self

from octarm.common.testing.fakes import NOON
from octarm.models.errors import InvalidRequest
from octarm.models.ids import new_id
from octarm.models.policies import (
    DifferencesFound,
    PoliciesFound,
    PolicyDeleted,
    PolicyDeployed,
    PolicyKind,
    PolicyProblem,
    PolicySaved,
    PolicySimulated,
    PolicyValidated,
    PolicyVersion,
    SavePolicy,
    SimulatePolicy,
)
from octarm.policies import book as books
from octarm.policies.book import Act, Book
from octarm.policies.versions import digest


class FakePolicies:
    """A book, changed without a bus; `simulated` is what was to be simulated."""

    def __init__(self) -> None:
        self.book = Book()
        self.sources: dict[str, str] = {}
        self.simulated: list[SimulatePolicy] = []
        self.by = "client"
        self._acts = 0

    def named(self, by: str) -> Self:
        self.by = by
        return self

    def _act(self) -> Act:
        self._acts += 1
        return Act(new_id("evt"), NOON + timedelta(seconds=self._acts), self.by)

    async def save(
        self, name: str, source: str, *, kind: PolicyKind = "starlark", note: str = ""
    ) -> PolicySaved:
        if "wrong" in source:
            raise InvalidRequest("line 1: wrong", code="INVALID_POLICY")
        wanted = SavePolicy(name=name, kind=kind, source=source, by=self.by, note=note)
        self.book, info, event = books.save(self.book, wanted, self._act())
        self.sources[info.digest] = source
        return PolicySaved(policy=self.book.stated(info), created=event is not None)

    async def validate(self, source: str, kind: PolicyKind = "starlark") -> PolicyValidated:
        problem = PolicyProblem(severity="error", message="wrong", line=1, hint="right it")
        problems = [problem] if "wrong" in source else []
        return PolicyValidated(digest=digest(source, kind), problems=problems)

    async def differences(self, shard: int = 0) -> DifferencesFound:
        return DifferencesFound(shadow=self.book.shadow or "", cycles=shard)

    async def list(self, name: str | None = None) -> PoliciesFound:
        return PoliciesFound(policies=self.book.listed(name), deployments=[*self.book.deployments])

    async def get(self, ref: str) -> PolicyVersion:
        info = self.book.stated(self.book.find(ref))
        return PolicyVersion(**info.model_dump(), source=self.sources[info.digest])

    async def deploy(self, ref: str) -> PolicyDeployed:
        self.book, _ = books.deploy(self.book, ref, self._act())
        return self._deployed()

    async def shadow(self, ref: str | None) -> PolicyDeployed:
        self.book, _ = books.shadow(self.book, ref, self._act())
        return self._deployed()

    async def roll_back(self) -> PolicyDeployed:
        self.book, _ = books.roll_back(self.book, self._act())
        return self._deployed()

    async def delete(self, ref: str) -> PolicyDeleted:
        self.book, event = books.delete(self.book, ref, self._act())
        return PolicyDeleted(digest=event.policy if event else None)

    async def simulate(self, wanted: SimulatePolicy) -> PolicySimulated:
        self.simulated.append(wanted)
        return PolicySimulated(outcomes=[], tasks=3)

    def _deployed(self) -> PolicyDeployed:
        newest = self.book.deployments[0] if self.book.deployments else None
        return PolicyDeployed(deployment=newest, shadow=self.book.shadow)
