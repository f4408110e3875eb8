"""Versions of scheduling policies, what is wrong with one, and which of them decides.

A version is its content: immutable, named by the SHA-256 of kind and source. Wherever a request
takes a `ref` it may be that digest, at least its first eight digits when no other version begins
with them, or a name, which is the newest version of that name.
"""

from typing import Annotated, Final, Literal

from pydantic import Field, JsonValue, StringConstraints

from octarm.models.commands import Message, Text
from octarm.models.ids import NAME_PATTERN, ArmId, Sha256, TaskId, Tenant
from octarm.models.scalars import Attempt, Count, Flag, Instant, Slots, Stored

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


class EndShadow(Message):
    """Ask no version any more beside the one that decides; again is the same."""

    by: Text


class PolicyDeployed(Message):
    """What decides now; without a deployment the platform's own policy always has."""

    deployment: Deployment | None = None
    shadow: Sha256 | None = None


class GetDifferences(Message):
    """Show where the shadow has differed from what decides, at the leader of a shard."""

    shard: int = Field(default=0, ge=0, lt=64, strict=True)


class ShadowDifference(Message):
    """A task that both decided about, otherwise; each names an arm, or says what it did instead."""

    at: Instant
    task_id: TaskId
    live: str = Field(description="An arm, `(waits)` or `(rejected)`")
    shadow: str = Field(description="The same of the shadow")
    reason: str = Field(default="", description="What the shadow said of it")


class DifferencesFound(Message):
    """What a shadow has amounted to since it began at this leader."""

    shadow: str = Field(default="", description="name@digest; empty: nothing shadows here")
    cycles: Count = 0
    equal: Count = Field(default=0, description="Cycles in which both did the same")
    failed: dict[str, int] = Field(default_factory=dict, description="Why it gave nothing → cycles")
    placed_live: Count = 0
    placed_shadow: Count = 0
    moved: Count = Field(default=0, description="Tasks that it would have placed elsewhere")
    only_live: Count = Field(default=0, description="Tasks that it would have let wait")
    only_shadow: Count = Field(default=0, description="Tasks that it would not have let wait")
    rejected: Count = Field(default=0, description="Tasks that only one of them rejected")
    differences: list[ShadowDifference] = Field(
        default_factory=list, max_length=50, description="The newest first"
    )


class DeletePolicy(Message):
    """Forget a version that neither decides nor shadows; again is the same."""

    ref: PolicyRef
    by: Text


class PolicyDeleted(Message):
    """The version is gone."""

    digest: Sha256 | None = Field(description="None when there was none")


class SimulatePolicy(Message):
    """Run policies in virtual time: on what was recorded since a time, or on a load.

    Each of `refs` is a version, the name of a built-in policy, or `live`. `draft` is one more,
    that was not saved.
    """

    refs: list[PolicyRef] = Field(default_factory=list, max_length=8)
    draft: ValidatePolicy | None = None
    since: Instant | None = Field(default=None, description="Of the record; the last hour")
    until: Instant | None = Field(default=None, description="Of the record; now")
    tenant: Tenant | None = Field(default=None, description="Whose tasks; None: everybody's")
    load: Annotated[Stored, StringConstraints(max_length=MAX_SOURCE)] = Field(
        default="", description="TOML; arms and rules are its own, tasks too without a record"
    )
    seed: Count = 1


class PolicySimulated(Message):
    """What each policy made of it, the figures of `octarm.policies.simulator.outcome`."""

    outcomes: list[dict[str, JsonValue]]
    tasks: Count = Field(default=0, description="Recorded tasks; 0: the load's own were taken")
    cut: Flag = Field(default=False, description="More was recorded than is simulated")


class FindDecisions(Message):
    """Page through the attempts of the tasks that were accepted in a time, oldest first."""

    since: Instant
    until: Instant
    tenant: Tenant | None = None
    after: TaskId | None = Field(default=None, description="Behind this task")
    limit: int = Field(default=1000, ge=1, le=1000, strict=True, description="Tasks on the page")
    under_way: Flag = Field(default=False, description="Only what an arm has now")


class DecisionRecord(Message):
    """One attempt that was placed, as the simulator reads it; Unix seconds, micro-dollars."""

    type: Literal["decision"] = "decision"
    task_id: TaskId
    attempt: Attempt
    tenant: Tenant
    tier: Literal["interactive", "batch"]
    priority: int = Field(ge=1, le=10, strict=True)
    needs: list[str] = Field(default_factory=list)
    labels: dict[str, str] = Field(default_factory=dict)
    assigned_arm: ArmId | None = None
    slots: Slots = 1
    tokens: Count = 0
    queued_at: float
    placed_at: float | None = None
    deadline: float | None = None
    took_s: float | None = Field(default=None, gt=0, description="None: it has not ended")
    status: Literal["success", "failure", "partial"] = "success"
    arm_id: ArmId | None = None
    policy: str = ""
    cost: Count = 0


class DecisionsFound(Message):
    """A page; `after` of the next one, None when this was the last."""

    decisions: list[DecisionRecord]
    after: TaskId | None = None
