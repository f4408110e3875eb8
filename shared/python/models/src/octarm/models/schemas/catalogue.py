"""Which models are public: every one that crosses the bus or HTTP, in the order of its module."""

from collections.abc import Iterator
from inspect import getmembers, isclass
from types import ModuleType
from typing import Any, Final

from pydantic import BaseModel

from octarm.models import (
    arms,
    commands,
    contracts,
    episodes,
    erasure,
    errors,
    events,
    identity,
    policies,
    queries,
    rejections,
    results,
    scaling,
    semantic,
    shedding,
    upkeep,
    usage,
)

MODULES: Final[tuple[ModuleType, ...]] = (
    errors,
    contracts,
    results,
    arms,
    commands,
    events,
    identity,
    queries,
    episodes,
    semantic,
    shedding,
    upkeep,
    erasure,
    policies,
    rejections,
    scaling,
    usage,
)
# What the others inherit from; none of these travels itself.
ABSTRACT: Final[frozenset[type[BaseModel]]] = frozenset(
    {
        commands.Message,
        events.Event,
        events.TaskEvent,
        events.TaskEnded,
        semantic.MemoryQuestion,
    }
)
# Unions have no name of their own; the tag is the field that tells their members apart.
UNIONS: Final[dict[str, Any]] = {
    "AcceptanceCriterion": contracts.AcceptanceCriterion,
    "AnyTaskEvent": events.AnyTaskEvent,
}
UNION_MODULE: Final = {"AcceptanceCriterion": contracts, "AnyTaskEvent": events}


def models_of(module: ModuleType) -> Iterator[type[BaseModel]]:
    """Give the public models that `module` defines, by name."""
    for name, member in getmembers(module, isclass):
        own = member.__module__ == module.__name__ and not name.startswith("_")
        if own and issubclass(member, BaseModel) and member not in ABSTRACT:
            yield member


def public_models() -> list[type[BaseModel]]:
    """Give every public model."""
    return [model for module in MODULES for model in models_of(module)]
