"""Versions of scheduling policies, what is wrong with one, and which of them decides.

A version is its content: immutable, named by the SHA-256 of kind and source. Wherever a request
takes a `ref` it may be that digest, at least its first eight digits when no other version begins
with them, or a name, which is the newest version of that name.
"""

from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints

from octarm.models.commands import Message, Text
from octarm.models.ids import NAME_PATTERN, Sha256
from octarm.models.scalars import Count, Flag, Instant, Stored

MAX_SOURCE: Final = 65_536

PolicyKind = Literal["starlark", "yaml"]
PolicyState = Literal["live", "shadow", "tripped", "idle"]
PolicyName = Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=63)]
PolicyRef = Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=64)]
Source = Annotated[Stored, StringConstraints(min_length=1, max_length=MAX_SOURCE)]


class PolicyProblem(Message):
    """Something about a source that its author should know."""

    severity: Literal["error", "warning"]
    message: Annotated[str, StringConstraints(max_length=10_000)]
    line: int | None = Field(default=None, ge=1, strict=True)
    hint: Text = ""


class PolicyInfo(Message):
    """A version without its source."""

    digest: Sha256
    name: PolicyName
    kind: PolicyKind
    size_bytes: Count
    created_at: Instant
    created_by: Text
    note: Text = ""
    state: PolicyState = "idle"


class PolicyVersion(PolicyInfo):
    """A version as it was saved."""

    source: Source


class Deployment(Message):
    """From `at` on `digest` decides; None is the platform's own policy."""

    digest: Sha256 | None
    replaces: Sha256 | None = None
    at: Instant
    by: Text
    because: Text = Field(default="", description="deployed, rolled back, or why it was tripped")


class SavePolicy(Message):
    """Keep this source; the same content again is the version that is there already."""

    name: PolicyName
    kind: PolicyKind
    source: Source
    by: Text
    note: Text = ""


class PolicySaved(Message):
    """The version is kept; a source with an error is not."""

    policy: PolicyInfo
    created: Flag
    problems: list[PolicyProblem] = Field(default_factory=list)


class ValidatePolicy(Message):
    """Say what is wrong with a source; nothing is kept."""

    kind: PolicyKind
    source: Source


class PolicyValidated(Message):
    """What is wrong; without an error it could be saved and deployed."""

    digest: Sha256
    problems: list[PolicyProblem]


class ListPolicies(Message):
    """List versions, the newest first."""

    name: PolicyName | None = None


class PoliciesFound(Message):
    """Versions, and the deployments of the past, the newest first."""

    policies: list[PolicyInfo]
    deployments: list[Deployment] = Field(default_factory=list, max_length=100)


class GetPolicy(Message):
    """Show one version with its source."""

    ref: PolicyRef


class DeployPolicy(Message):
    """Let a version decide, or, as a shadow, only be asked; a shadow replaces the last one."""

    ref: PolicyRef
    by: Text
    shadow: Flag = False


class RollBackPolicy(Message):
    """Let the version before decide again."""

    by: Text


class PolicyDeployed(Message):
    """What decides now."""

    deployment: Deployment
    shadow: Sha256 | None = None


class DeletePolicy(Message):
    """Forget a version that neither decides nor shadows; again is the same."""

    ref: PolicyRef
    by: Text


class PolicyDeleted(Message):
    """The version is gone."""

    digest: Sha256 | None = Field(description="None when there was none")
