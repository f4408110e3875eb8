"""What the use cases of semantic memory need; `storage` and `embedders` fill the roles."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Protocol

from octarm.memory.domain.access import Narrowed
from octarm.memory.domain.ranking import Candidate
from octarm.memory.domain.settling import Fresh, Settled
from octarm.models.semantic import MemoryFilter, SemanticMemory


class Embedder(Protocol):
    """Something that turns texts into vectors of one dimension."""

    @property
    def name(self) -> str:
        """The model with its version: vectors of one name may be compared."""
        ...

    @property
    def dimension(self) -> int:
        """Components of each vector."""
        ...

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Give a vector of length 1 for each text, in order, without holding up the loop.

        Raises:
            Unavailable: it does not answer now, or not with what was asked for.
        """
        ...


@dataclass(frozen=True, slots=True)
class Space:
    """What made vectors, by the number that rows have."""

    space: int
    embedder: str
    dimension: int


@dataclass(frozen=True, slots=True)
class VectorAsked:
    """A vector and the space in which its neighbours are; an empty one asks for none."""

    space: int
    vector: Sequence[float]


@dataclass(frozen=True, slots=True)
class Lists:
    """Candidates, the best first, by words and by vector."""

    text: list[Candidate] = field(default_factory=list)
    vector: list[Candidate] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Audited:
    """Who did, or wanted to do, what; contents and queries are not repeated in it."""

    at: datetime
    tenant: str
    arm_id: str | None
    action: str
    about: Mapping[str, Any]
    verdict: str = "allowed"

    def decided(self, verdict: str) -> "Audited":
        """Give it with what came of it."""
        return replace(self, verdict=verdict)


class Knowing(Protocol):
    """Where memories are found. All raise `Unavailable` when it does not answer."""

    async def spaces(self, tenant: str) -> list[Space]:
        """Give what made the vectors of a tenant's memories."""
        ...

    async def candidates(
        self,
        tenant: str,
        query: str,
        vectors: Sequence[VectorAsked],
        *,
        only: MemoryFilter,
        within: Narrowed,
        limit: int,
    ) -> Lists:
        """Give the best by words, and by vector of each space."""
        ...

    async def get(self, tenant: str, memory_ids: Sequence[str]) -> dict[str, SemanticMemory]:
        """Give those that exist, by id."""
        ...

    async def history(self, tenant: str, memory_id: str) -> list[SemanticMemory]:
        """Give what a memory superseded and took in, newest first."""
        ...

    async def forget(self, tenant: str, memory_id: str, audited: Audited) -> int:
        """Delete a memory with its history; gives the number of rows."""
        ...


class Keeper(Protocol):
    """Where memories are kept. All raise `Unavailable` when it does not answer."""

    async def space_of(self, embedder: str, dimension: int) -> int:
        """Give the number of what makes vectors."""
        ...

    async def keep(
        self, tenant: str, fresh: Sequence[Fresh], audited: Sequence[Audited]
    ) -> list[Settled]:
        """Settle each in order and write it, with its entry of the audit."""
        ...


class Audit(Protocol):
    """Where reads and refusals are noted; soon durable, and never in the way."""

    def note(self, entry: Audited) -> None:
        """Note one."""
        ...
