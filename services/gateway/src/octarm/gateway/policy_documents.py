"""What the HTTP API takes about policies; its answers are those of the bus."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from octarm.models.policies import (
    MAX_SOURCE,
    PolicyKind,
    PolicyName,
    PolicyRef,
    Source,
    ValidatePolicy,
)
from octarm.models.scalars import Count, Instant, Stored

Note = Annotated[str, StringConstraints(max_length=200)]


class _Wish(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class PolicySource(_Wish):
    """A source, and what language it is in."""

    kind: PolicyKind = "starlark"
    source: Source

    def question(self) -> ValidatePolicy:
        """Give it as it is asked about on the bus."""
        return ValidatePolicy(kind=self.kind, source=self.source)


class PolicyToSave(PolicySource):
    """A source to keep under a name."""

    name: PolicyName
    note: Note = ""


class Simulation(_Wish):
    """Policies, and what to simulate them on: a record, a load, or both."""

    refs: list[PolicyRef] = Field(
        default_factory=list, max_length=8, description="Versions, names of built-in ones, `live`"
    )
    draft: PolicySource | None = Field(default=None, description="One more, that was not saved")
    since: Instant | None = Field(default=None, description="Of the record; the last hour")
    until: Instant | None = Field(default=None, description="Of the record; now")
    load: Annotated[Stored, StringConstraints(max_length=MAX_SOURCE)] = Field(
        default="", description="TOML; arms and rules are its own, tasks too without `since`"
    )
    seed: Count = 1
