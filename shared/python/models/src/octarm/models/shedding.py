"""The load-shedding switch: what operators have told the fleet to refuse, who, since when, why."""

from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field, StringConstraints

from octarm.models.commands import Message
from octarm.models.ids import Tenant
from octarm.models.scalars import Instant, Stored

MAX_SECONDS: Final = 7 * 24 * 3600
MAX_PAST: Final = 50
Text = Annotated[Stored, StringConstraints(max_length=1000)]


class ShedMode(StrEnum):
    """What is refused of fresh tasks; what was accepted goes on, and so do its children."""

    OPEN = "open"
    BATCH = "shed-batch"
    ALL_NEW = "shed-all-new"


class Switching(Message):
    """How the switch is to stand."""

    tenant: Tenant | None = Field(default=None, description="Of one tenant; none: of the fleet")
    mode: ShedMode
    reason: Text = Field(default="", description="Everybody who is refused reads it")
    seconds: int | None = Field(
        default=None, ge=1, le=MAX_SECONDS, strict=True, description="Opens by itself after these"
    )


class SwitchShedding(Switching):
    """Put the switch so; the same again is noted again, and changes nothing."""

    by: Text


class Switched(Message):
    """How a switch was put, by whom; it holds until `until`, or until it is put anew."""

    tenant: Tenant | None = None
    mode: ShedMode
    reason: Stored = ""
    by: Text
    at: Instant
    until: Instant | None = None


class GetShedding(Message):
    """Show how the switches stand."""


class SheddingFound(Message):
    """The switches that shed now, and how they were put before, the newest first."""

    now: list[Switched]
    past: list[Switched] = Field(default_factory=list, max_length=MAX_PAST)
