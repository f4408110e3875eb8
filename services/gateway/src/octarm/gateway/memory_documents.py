"""What the HTTP API takes about semantic memory; its answers are those of the bus."""

from pydantic import BaseModel, ConfigDict, Field

from octarm.models.erasure import Subject
from octarm.models.ids import ArmId, MemoryId, Tag
from octarm.models.semantic import (
    MAX_REMEMBERED,
    EntityType,
    MemoryFilter,
    MemoryQuestion,
    NewMemory,
)
from octarm.models.upkeep import MAX_LISTED


class MemoryToKeep(NewMemory):
    """Something to be kept; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class MemoriesToKeep(BaseModel):
    """What to remember, in the name of whom."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: ArmId = Field(default="api", description="What it may write is declared by its name")
    memories: list[MemoryToKeep] = Field(min_length=1, max_length=MAX_REMEMBERED)


class MemorySelection(MemoryFilter):
    """Which memories; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class MemorySearch(MemoryQuestion):
    """What to search for; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")

    only: MemorySelection = MemorySelection()


class MemoryList(BaseModel):
    """Which memories, and which page of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tag: list[Tag] = Field(default_factory=list, max_length=20, description="It has all of them")
    type: EntityType | None = None
    after: MemoryId | None = Field(default=None, description="The last one of the page before")
    limit: int = Field(default=100, ge=1, le=MAX_LISTED)


class SubjectToErase(Subject):
    """Whom or what to erase; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")
