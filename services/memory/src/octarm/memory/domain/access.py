"""Diodes: what an arm may read and write, declared by the operator, arm by arm.

An arm is held to the entry of its id, else to that of `*`, else to nothing: it may do all that its
tenant may. A wall whose height the one behind it could name would be none, so this is part of the
service's settings and not of an arm's registration.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from octarm.models.ids import ArmId, Tag, Tenant
from octarm.models.semantic import EntityType, MemoryFilter, SemanticMemory

ANYBODY: Final = "*"


class Scope(BaseModel):
    """Which memories; what is not given is not limited."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    entity_types: frozenset[EntityType] | None = None
    tags: frozenset[Tag] | None = Field(
        default=None, description="Read: it has one of these. Write: it has no others, and one"
    )
    not_tags: frozenset[Tag] = Field(default=frozenset(), description="It has none of these")

    def has(self, entity_type: str, tags: Iterable[str]) -> bool:
        """Tell whether a memory may be read."""
        own = frozenset(tags)
        return (
            (self.entity_types is None or entity_type in self.entity_types)
            and (self.tags is None or bool(own & self.tags))
            and not own & self.not_tags
        )

    def takes(self, entity_type: str, tags: Iterable[str]) -> bool:
        """Tell whether a memory may be written: it must also bear no other tags."""
        own = frozenset(tags)
        return self.has(entity_type, own) and (self.tags is None or own <= self.tags)


class Access(BaseModel):
    """What one arm may do; None for `read` or `write`: nothing of that."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    read: Scope | None = Scope()
    write: Scope | None = Scope()
    tenants: frozenset[Tenant] | None = Field(default=None, description="None: of any")
    properties: frozenset[str] | None = Field(
        default=None, description="Keys of the metadata that it is shown; None: all"
    )
    reads_per_minute: int | None = Field(default=None, ge=1, le=1_000_000)


EVERYTHING: Final = Access()


@dataclass(slots=True)
class Diodes:
    """The declarations of all arms; they may be declared anew while reads and writes go on."""

    declared: Mapping[ArmId, Access]

    def of(self, arm_id: str | None, tenant: str) -> Access:
        """Give what an arm may do for a tenant; None is the tenant itself, which may do all."""
        if arm_id is None:
            return EVERYTHING
        access = self.declared.get(arm_id) or self.declared.get(ANYBODY) or EVERYTHING
        if access.tenants is not None and tenant not in access.tenants:
            return Access(read=None, write=None)
        return access


@dataclass(frozen=True, slots=True)
class Narrowed:
    """What was asked for within what may be read. Empty lists of tags ask for nothing."""

    entity_types: tuple[str, ...] | None
    tags: tuple[str, ...]
    any_tags: tuple[str, ...] | None
    no_tags: tuple[str, ...]


def narrowed(only: MemoryFilter, scope: Scope) -> Narrowed | None:
    """Give the part of a question that may be asked; None when nothing is left of it."""
    types = frozenset(only.entity_types) or None
    if scope.entity_types is not None:
        types = scope.entity_types if types is None else types & scope.entity_types
        if not types:
            return None
    return Narrowed(
        entity_types=None if types is None else tuple(sorted(types)),
        tags=tuple(only.tags),
        any_tags=None if scope.tags is None else tuple(sorted(scope.tags)),
        no_tags=tuple(sorted(scope.not_tags)),
    )


def shown(memory: SemanticMemory, access: Access) -> SemanticMemory:
    """Leave out of a memory what the arm may not see of it."""
    if access.properties is None:
        return memory
    allowed = {key: value for key, value in memory.metadata.items() if key in access.properties}
    return memory.model_copy(update={"metadata": allowed})
