"""The questions about policies, one method each."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from octarm.models.errors import FieldError, InvalidRequest
from octarm.models.ids import new_id
from octarm.models.policies import (
    DeletePolicy,
    DeployPolicy,
    EndShadow,
    GetPolicy,
    ListPolicies,
    PoliciesFound,
    PolicyDeleted,
    PolicyDeployed,
    PolicyProblem,
    PolicySaved,
    PolicyValidated,
    PolicyVersion,
    RollBackPolicy,
    SavePolicy,
    ValidatePolicy,
)
from octarm.policies.book import Act, Book
from octarm.policies.desk.examining import Examiner
from octarm.policies.store.store import PolicyStore

MAX_BY = 200
MAX_SHOWN = 2_000


@dataclass(frozen=True, slots=True)
class PolicyDesk:
    """Answers on behalf of all schedulers: what is asked of one is asked of the store.

    Each method raises `Unavailable` while the bus does not answer, and what `octarm.policies.book`
    says about its change.
    """

    store: PolicyStore
    examine: Examiner
    now: Callable[[], datetime]

    async def save(self, wanted: SavePolicy) -> PolicySaved:
        """Keep a source that works.

        Raises:
            InvalidRequest: it does not; `errors` has the lines.
        """
        found = await self.examine(wanted.source, wanted.kind)
        wrong = [it for it in found.problems if it.severity == "error"]
        if wrong:
            raise _refusal(wrong)
        info, created = await self.store.save(wanted, self._act(wanted.by))
        return PolicySaved(policy=info, created=created, problems=found.problems)

    async def validate(self, wanted: ValidatePolicy) -> PolicyValidated:
        """Say what is wrong with a source."""
        return await self.examine(wanted.source, wanted.kind)

    async def list(self, wanted: ListPolicies) -> PoliciesFound:
        """List versions and deployments."""
        book = await self.store.book()
        return PoliciesFound(policies=book.listed(wanted.name), deployments=list(book.deployments))

    async def get(self, wanted: GetPolicy) -> PolicyVersion:
        """Show a version."""
        return await self.store.source(wanted.ref)

    async def deploy(self, wanted: DeployPolicy) -> PolicyDeployed:
        """Let a version decide, or shadow."""
        act = self._act(wanted.by)
        if wanted.shadow:
            return _deployed(await self.store.shadow(wanted.ref, act))
        return _deployed(await self.store.deploy(wanted.ref, act))

    async def end_shadow(self, wanted: EndShadow) -> PolicyDeployed:
        """Let no version shadow."""
        return _deployed(await self.store.shadow(None, self._act(wanted.by)))

    async def roll_back(self, wanted: RollBackPolicy) -> PolicyDeployed:
        """Let the version before decide."""
        return _deployed(await self.store.roll_back(self._act(wanted.by)))

    async def delete(self, wanted: DeletePolicy) -> PolicyDeleted:
        """Forget a version."""
        return PolicyDeleted(digest=await self.store.delete(wanted.ref, self._act(wanted.by)))

    def _act(self, by: str) -> Act:
        return Act(new_id("evt"), self.now(), by[:MAX_BY])


def _deployed(book: Book) -> PolicyDeployed:
    return PolicyDeployed(
        deployment=book.deployments[0] if book.deployments else None, shadow=book.shadow
    )


def _refusal(wrong: list[PolicyProblem]) -> InvalidRequest:
    first = wrong[0]
    where = f"line {first.line}: " if first.line else ""
    return InvalidRequest(
        f"{where}{first.message}"[:MAX_SHOWN],
        first.hint or "Correct it; `octarm policy validate` shows all problems.",
        "INVALID_POLICY",
        errors=[
            FieldError(
                field=f"source.{it.line}" if it.line else "source", message=it.message[:MAX_SHOWN]
            )
            for it in wrong[:20]
        ],
    )
