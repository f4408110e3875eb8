"""Keep what arms and people want remembered: access, redaction, schema, store, audit."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from octarm.common.redaction import redact, redact_json
from octarm.common.telemetry import metrics
from octarm.memory.domain.access import Access, Diodes
from octarm.memory.domain.sameness import content_hash, fact_key
from octarm.memory.domain.settling import (
    Fresh,
    Known,
    Merge,
    Outdated,
    Refused,
    Settled,
)
from octarm.memory.usecases.embedding import Embedders, normalised
from octarm.memory.usecases.finding import refused
from octarm.memory.usecases.knowledge import Audit, Audited, Keeper
from octarm.models.errors import Conflict, InvalidRequest, NotFound, OctarmError
from octarm.models.ids import new_id
from octarm.models.semantic import (
    MAX_CONTENT,
    NewMemory,
    Remember,
    RememberAnswer,
    Remembered,
    RememberOutcome,
)

MAX_METADATA_BYTES: Final = 64 * 1024
MAX_PROVENANCE_BYTES: Final = 32 * 1024


@dataclass(frozen=True, slots=True)
class _Clean:
    """One that may be kept: redacted, and known by its words."""

    given: NewMemory
    content: str
    metadata: str
    fact: bytes | None
    redactions: int


@dataclass(frozen=True, slots=True)
class RememberKnowledge:
    """Keep memories in the name of a source; each is answered on its own."""

    kept: Keeper
    embedders: Embedders
    diodes: Diodes
    audit: Audit
    now: Callable[[], datetime]

    async def __call__(self, command: Remember, *, promoted: bool = False) -> Remembered:
        """Keep what may be kept; of what is new and `promoted` out of an episode, tell the fleet.

        Raises:
            Unavailable: Postgres does not answer; asking again keeps nothing twice.
        """
        access = self.diodes.of(command.source, command.tenant)
        answers: list[RememberAnswer | None] = [
            self._forbidden(command, access, one) for one in command.memories
        ]
        allowed = [place for place, answer in enumerate(answers) if answer is None]
        # Beside the loop: a megabyte of text takes a while to be searched for secrets.
        cleaned = await asyncio.to_thread(
            lambda: [_clean(command.memories[place], self.embedders) for place in allowed]
        )
        fit: list[tuple[int, _Clean]] = []
        for place, clean in zip(allowed, cleaned, strict=True):
            if isinstance(clean, _Clean):
                fit.append((place, clean))
            else:
                answers[place] = _refusal(clean)
        if fit:
            for place, answer in await self._keep(command, fit, promoted=promoted):
                answers[place] = answer
        done = [answer for answer in answers if answer is not None]
        for answer in done:
            metrics.inc("octarm_memory_remembered_total", outcome=answer.outcome or "refused")
        return Remembered(answers=done)

    def _forbidden(
        self, command: Remember, access: Access, one: NewMemory
    ) -> RememberAnswer | None:
        if access.write is not None and access.write.takes(one.entity_type, one.tags):
            return None
        entry = self._entry(command, one.memory_id or "", one)
        self.audit.note(entry.decided("denied"))
        return _refusal(refused(command.source, "write"))

    async def _keep(
        self, command: Remember, fit: Sequence[tuple[int, _Clean]], *, promoted: bool
    ) -> list[tuple[int, RememberAnswer]]:
        clean = [one for _, one in fit]
        fresh = await self._fresh(command.source, clean)
        if promoted:
            fresh = [replace(one, promoted=True) for one in fresh]
        audited = [
            self._entry(command, one.memory_id, its.given)
            for one, its in zip(fresh, clean, strict=True)
        ]
        settled = await self.kept.keep(command.tenant, fresh, audited)
        return [
            (place, _answer(one, done, its.redactions))
            for (place, its), one, done in zip(fit, fresh, settled, strict=True)
        ]

    async def _fresh(self, source: str, clean: Sequence[_Clean]) -> list[Fresh]:
        missing = [one.content for one in clean if one.given.embedding is None]
        made = iter(await self.embedders.of(missing) or [] if missing else [])
        spaces = {
            one.name: await self.kept.space_of(one.name, one.dimension)
            for one in self.embedders.by_name.values()
        }
        now = self.now()
        fresh: list[Fresh] = []
        for one in clean:
            if one.given.embedding is None or one.given.embedder is None:
                # Without a vector it is found by its words, and gets one later.
                vector, name = next(made, []), self.embedders.current.name
            else:
                vector, name = normalised(one.given.embedding), one.given.embedder
            fresh.append(_fresh(one, source, now, (spaces[name], vector)))
        return fresh

    def _entry(self, command: Remember, memory_id: str, one: NewMemory) -> Audited:
        about = {"memory_id": memory_id, "entity_type": one.entity_type, "tags": one.tags}
        return Audited(self.now(), command.tenant, command.source, "remember", about)


def _clean(one: NewMemory, embedders: Embedders) -> _Clean | OctarmError:
    """Take secrets and personal data out, and hold the rest to the schema."""
    if one.embedding is not None and one.embedder is not None:
        embedder = embedders.by_name.get(one.embedder)
        if embedder is None or embedder.dimension != len(one.embedding):
            known = ", ".join(f"{it.name} ({it.dimension})" for it in embedders.by_name.values())
            return InvalidRequest(
                f"embedding: {len(one.embedding)} components by {one.embedder}; known: {known}",
                code="INVALID_PARAMETER",
            )
    content = redact(one.content)
    metadata, kinds = redact_json(one.metadata)
    text = json.dumps(metadata, ensure_ascii=False)
    if len(text.encode("utf-8", "replace")) > MAX_METADATA_BYTES:
        return InvalidRequest(f"metadata: at most {MAX_METADATA_BYTES} bytes")
    provenance = one.provenance.model_dump_json() if one.provenance else ""
    if len(provenance.encode()) > MAX_PROVENANCE_BYTES:
        return InvalidRequest(f"provenance: at most {MAX_PROVENANCE_BYTES} bytes")
    fact = fact_key(metadata if isinstance(metadata, dict) else {})
    redactions = len(content.findings) + len(kinds)
    return _Clean(one, content.text[:MAX_CONTENT], text, fact, redactions)


def _fresh(one: _Clean, source: str, now: datetime, placed: tuple[int, Sequence[float]]) -> Fresh:
    given = one.given
    space, vector = placed
    return Fresh(
        memory_id=given.memory_id or new_id("mem"),
        entity_type=given.entity_type,
        content=one.content,
        content_hash=bytes.fromhex(content_hash(one.content)),
        metadata=one.metadata,
        source=source,
        found_at=given.timestamp or now,
        confidence=given.confidence,
        tags=tuple(sorted(set(given.tags))),
        provenance=given.provenance.model_dump_json() if given.provenance else None,
        space=space if vector else None,
        vector=vector,
        fact=one.fact,
        supersedes=given.supersedes,
        merge=given.merge,
    )


def _answer(one: Fresh, settled: Settled, redactions: int) -> RememberAnswer:
    if isinstance(settled, Refused):
        return _refusal(_problem(settled))
    outcome: RememberOutcome
    into: str | None = None
    memory_id = one.memory_id
    if isinstance(settled, Known):
        outcome, memory_id, into = "known", settled.memory_id, settled.into
    elif isinstance(settled, Merge):
        outcome, into = "merged", settled.into
    elif isinstance(settled, Outdated):
        outcome, into = "superseded", settled.by
    else:
        outcome = "created"
    return RememberAnswer(memory_id=memory_id, outcome=outcome, into=into, redactions=redactions)


def _problem(settled: Refused) -> OctarmError:
    if settled.code == "MEMORY_NOT_FOUND":
        return NotFound(settled.why, code=settled.code)
    if settled.code == "INVALID_REQUEST":
        return InvalidRequest(settled.why)
    return Conflict(settled.why, code=settled.code)


def _refusal(error: OctarmError) -> RememberAnswer:
    return RememberAnswer(problem=error.problem())
