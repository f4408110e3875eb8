"""What becomes of something that is to be remembered, given what is known already: pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from octarm.memory.domain.sameness import cosine, says_the_same

Ended = Literal["merged", "superseded"]


@dataclass(frozen=True, slots=True)
class Fresh:
    """Something that is to be remembered: checked, redacted, hashed and embedded.

    `vector` is of length 1, or empty when nothing could make it; `metadata` and `provenance`
    are JSON; `fact` is what it is about, if it says so; `promoted`: out of an episode.
    """

    memory_id: str
    entity_type: str
    content: str
    content_hash: bytes
    metadata: str
    source: str
    found_at: datetime
    confidence: float
    tags: tuple[str, ...] = ()
    provenance: str | None = None
    space: int | None = None
    vector: Sequence[float] = field(default=(), repr=False)
    fact: bytes | None = None
    supersedes: str | None = None
    merge: bool = True
    promoted: bool = False

    def held(self, *, by: str | None = None, ended: "Ended | None" = None) -> "Held":
        """Give it as what is there once it is written."""
        return Held(
            self.memory_id,
            self.entity_type,
            self.content,
            self.content_hash,
            self.metadata,
            self.source,
            self.found_at,
            self.tags,
            self.fact,
            by,
            ended,
            self.space,
            self.vector,
        )


@dataclass(frozen=True, slots=True)
class Held:
    """A memory that is there, as far as it matters to another."""

    memory_id: str
    entity_type: str
    content: str
    content_hash: bytes
    metadata: str
    source: str
    found_at: datetime
    tags: tuple[str, ...] = ()
    fact: bytes | None = None
    superseded_by: str | None = None
    ended: Ended | None = None
    space: int | None = None
    vector: Sequence[float] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Known:
    """It was there: nothing changes. `into` is what is held instead, if it is history."""

    memory_id: str
    into: str | None = None


@dataclass(frozen=True, slots=True)
class Create:
    """It is held from now on; the others are history."""

    supersedes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Merge:
    """It says what `into` says: kept as history, its origin is added there."""

    into: str


@dataclass(frozen=True, slots=True)
class Outdated:
    """Something newer about the same is held: it is history at once."""

    by: str


@dataclass(frozen=True, slots=True)
class Refused:
    """It cannot be kept as it was asked for."""

    code: Literal["ALREADY_EXISTS", "MEMORY_NOT_FOUND", "ALREADY_SUPERSEDED", "INVALID_REQUEST"]
    why: str


Settled = Known | Create | Merge | Outdated | Refused


class Knowledge:
    """What is known that may matter to a few fresh memories; grows as they are settled."""

    def __init__(self, held: Iterable[Held]) -> None:
        self._held = {one.memory_id: one for one in held}

    def add(self, one: Held) -> None:
        """Know one more, or one anew."""
        self._held[one.memory_id] = one

    def end(self, memory_id: str, *, by: str, ended: Ended) -> None:
        """Know one as history."""
        self._held[memory_id] = replace(self._held[memory_id], superseded_by=by, ended=ended)

    def settle(self, fresh: Fresh) -> Settled:
        """Decide what becomes of one, in this order.

        1. Its id is there: known; with another content it is refused.
        2. It names what it supersedes: that must be there and be held.
        3. It is about what a held one is about: the same content is known, else the later
           `found_at` wins, of equal ones the greater id.
        4. The same content, type and tags: known; of another source, merged.
        5. Nearly the same content, of the same type and tags, about nothing named: merged.
        6. It is new.
        """
        by_id = self._held.get(fresh.memory_id)
        if by_id is not None:
            if by_id.content_hash != fresh.content_hash:
                return Refused("ALREADY_EXISTS", f"{fresh.memory_id} is another memory")
            return Known(by_id.memory_id, by_id.superseded_by)
        if fresh.supersedes is not None:
            return self._replaced(fresh, fresh.supersedes)
        if fresh.fact is not None:
            holder = self._holder(fresh.fact)
            return _about_the_same(fresh, holder) if holder else Create()
        return self._repeated(fresh) or self._near(fresh) or Create()

    def _replaced(self, fresh: Fresh, target_id: str) -> Settled:
        target = self._held.get(target_id)
        if target is None:
            return Refused("MEMORY_NOT_FOUND", f"there is no {target_id} to supersede")
        if target.superseded_by is not None:
            return Refused("ALREADY_SUPERSEDED", f"{target_id} is history")
        holder = self._holder(fresh.fact) if fresh.fact is not None else None
        if holder is None or holder.memory_id == target_id:
            return Create((target_id,))
        return Create((target_id, holder.memory_id))

    def _holder(self, fact: bytes) -> Held | None:
        held = (one for one in self._held.values() if one.fact == fact and not one.superseded_by)
        return next(held, None)

    def _repeated(self, fresh: Fresh) -> Settled | None:
        same = sorted(
            (one for one in self._held.values() if _is_content_of(one, fresh)),
            key=lambda one: (
                one.superseded_by is not None,
                one.source != fresh.source,
                one.found_at,
            ),
        )
        for one in same:
            same_source = one.source == fresh.source
            if same_source and (one.superseded_by is None or one.ended == "merged"):
                if fresh.merge or one.metadata == fresh.metadata:
                    return Known(one.memory_id, one.superseded_by)
            elif one.superseded_by is None and fresh.merge:
                return Merge(one.memory_id)
            elif same_source and one.superseded_by and fresh.found_at <= one.found_at:
                return Known(one.memory_id, one.superseded_by)
        return None

    def _near(self, fresh: Fresh) -> Settled | None:
        if not (fresh.merge and fresh.vector):
            return None
        near = [
            (cosine(fresh.vector, one.vector), one)
            for one in self._held.values()
            if one.superseded_by is None and one.fact is None and _may_merge(one, fresh)
        ]
        for similarity, one in sorted(near, key=lambda pair: (-pair[0], pair[1].memory_id)):
            same_source = one.source == fresh.source
            if says_the_same(
                one.content, fresh.content, similarity=similarity, same_source=same_source
            ):
                return Merge(one.memory_id)
        return None


def _is_content_of(one: Held, fresh: Fresh) -> bool:
    return (
        one.content_hash == fresh.content_hash
        and one.entity_type == fresh.entity_type
        and one.tags == fresh.tags
        and one.fact is None
    )


def _may_merge(one: Held, fresh: Fresh) -> bool:
    return (
        one.entity_type == fresh.entity_type
        and one.tags == fresh.tags
        and one.space == fresh.space
        and len(one.vector) == len(fresh.vector)
    )


def _about_the_same(fresh: Fresh, holder: Held) -> Settled:
    if (holder.content_hash, holder.entity_type) == (fresh.content_hash, fresh.entity_type):
        return Known(holder.memory_id)
    if (fresh.found_at, fresh.memory_id) > (holder.found_at, holder.memory_id):
        return Create((holder.memory_id,))
    return Outdated(holder.memory_id)
