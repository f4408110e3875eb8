"""Who runs: every instance of every service says so when it is asked, each for itself."""

from typing import Annotated

from pydantic import Field, StringConstraints

from octarm.models.commands import Message
from octarm.models.ids import Token
from octarm.models.scalars import Instant

Short = Annotated[str, StringConstraints(max_length=100)]


class Identify(Message):
    """Ask every instance who it is; as many answer as there are."""


class Identity(Message):
    """One process of ours."""

    service: Token
    instance: Token
    version: Short
    heads: dict[Short, Short] = Field(
        default_factory=dict, max_length=10, description="Schema → the migration that it needs"
    )
    at: Instant = Field(description="What its clock says")
