"""What of an episode is worth keeping: rules, each of which gives the same for the same episode.

1. `remember`: an entry that says so (`{"remember": …}`), as a text, an object, or several.
2. `outcome`: an outcome that was a success and says in words what came of it.
3. `repeated`: an observation in words that the arm has written in three episodes or more.

What is kept bears the tags of its episode, so that whoever erases by a tag finds it, too.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import JsonValue, ValidationError

from octarm.models.episodes import EpisodicMemory
from octarm.models.ids import derived_id
from octarm.models.results import ProvenanceMetadata
from octarm.models.semantic import NewMemory

OFTEN: Final = 3
MAX_OBSERVATIONS: Final = 50
MAX_OF_ONE: Final = 50
MAX_CHARS: Final = 2_000
MIN_CHARS: Final = 8
_WORDS: Final = ("summary", "lesson", "text", "content", "output")
_SUCCESS: Final = frozenset({"success", "succeeded", "completed", "ok", "done"})


@dataclass(frozen=True, slots=True)
class Lessons:
    """What is to be remembered, and how many wishes were none that can be."""

    memories: tuple[NewMemory, ...]
    unreadable: int = 0


def observations(episode: EpisodicMemory) -> dict[bytes, str]:
    """Give the observations in words, by a digest that knows no case and no spaces."""
    found: dict[bytes, str] = {}
    for entry in episode.observations[:MAX_OBSERVATIONS]:
        text = _said(entry)
        if text:
            found.setdefault(_digest(text), text)
    return found


def lessons(episode: EpisodicMemory, seen: Mapping[bytes, int]) -> Lessons:
    """Apply the rules; `seen`: digest of an observation → episodes of the arm that have it."""
    wishes = list(_wishes(episode))
    kept: list[NewMemory] = []
    unreadable = 0
    for wish in wishes[:MAX_OF_ONE]:
        try:
            kept.append(_wished(episode, wish))
        except ValidationError:
            unreadable += 1
    kept += _outcomes(episode)
    kept += [
        _repeated(episode, text, seen[digest])
        for digest, text in observations(episode).items()
        if seen.get(digest, 0) >= OFTEN
    ]
    unique = {one.memory_id: one for one in kept}
    return Lessons(tuple(unique.values())[: 3 * MAX_OF_ONE], unreadable)


def _wishes(episode: EpisodicMemory) -> Iterator[JsonValue]:
    for entry in (*episode.observations, *episode.actions, *episode.outcomes):
        if isinstance(entry, dict) and "remember" in entry:
            wish = entry["remember"]
            yield from wish if isinstance(wish, list) else [wish]


def _wished(episode: EpisodicMemory, wish: JsonValue) -> NewMemory:
    given: dict[str, Any] = wish if isinstance(wish, dict) else {"content": wish}
    # An id, a vector or a provenance of its own would let an entry speak for others.
    named = NewMemory.model_validate(
        {
            name: given[name]
            for name in ("content", "entity_type", "metadata", "confidence", "tags")
            if name in given
        }
    )
    return _memory(
        episode, "remember", named.content, (named.content, *sorted(named.tags))
    ).model_copy(
        update={
            "entity_type": named.entity_type,
            "metadata": {**named.metadata, **_origin(episode, "remember")},
            "confidence": named.confidence,
            "tags": _tags(episode, named.tags),
        }
    )


def _outcomes(episode: EpisodicMemory) -> Iterator[NewMemory]:
    goals = (one.get("goal") for one in episode.observations if isinstance(one, dict))
    goal = next((one.strip() for one in goals if isinstance(one, str) and one.strip()), "")
    for entry in episode.outcomes[:MAX_OF_ONE]:
        if not isinstance(entry, dict) or "remember" in entry or not _succeeded(entry):
            continue
        text = _said(entry)
        if not text:
            continue
        content = f"{goal[:500]}: {text}" if goal else text
        confidence = entry.get("confidence")
        sure = confidence if isinstance(confidence, float) and 0 <= confidence <= 1 else 0.8
        memory = _memory(episode, "outcome", content, (content,))
        yield memory.model_copy(update={"entity_type": "task", "confidence": sure})


def _repeated(episode: EpisodicMemory, text: str, times: int) -> NewMemory:
    # One for the arm, whichever episode was the third.
    cause = f"{episode.tenant}/{episode.arm_id}/repeated/{_digest(text).hex()}"
    memory = _memory(episode, "repeated", text, (text,))
    return memory.model_copy(
        update={
            "memory_id": derived_id("mem", cause, unix_ms=0),
            "confidence": round(min(0.95, 1 - 1 / (times + 1)), 3),
        }
    )


def _memory(episode: EpisodicMemory, rule: str, content: str, cause: Sequence[str]) -> NewMemory:
    whole = "\x00".join((episode.tenant, episode.episode_id, rule, *cause))
    source = episode.arm_id or "memory"
    return NewMemory(
        memory_id=derived_id("mem", whole, unix_ms=int(episode.created_at.timestamp() * 1000)),
        content=content,
        metadata=_origin(episode, rule),
        tags=_tags(episode, ()),
        timestamp=episode.created_at,
        provenance=ProvenanceMetadata(
            arm_id=source,
            timestamp=episode.created_at,
            command_hash=hashlib.sha256(content.encode()).hexdigest(),
            data_sources=[episode.episode_id],
            chain=["observed", f"consolidated: {rule}"],
        ),
    )


def _origin(episode: EpisodicMemory, rule: str) -> dict[str, JsonValue]:
    return {"episode_id": episode.episode_id, "task_id": episode.task_id, "rule": rule}


def _tags(episode: EpisodicMemory, own: Sequence[str]) -> list[str]:
    return sorted({*own, *episode.tags})[:50]


def _succeeded(entry: Mapping[str, JsonValue]) -> bool:
    return entry.get("success") is True or any(
        isinstance(word := entry.get(name), str) and word.lower() in _SUCCESS
        for name in ("status", "ended", "result")
    )


def _said(entry: JsonValue) -> str:
    """Give what an entry says in words; empty when it says nothing, or too much."""
    if isinstance(entry, dict):
        words = (entry.get(name) for name in _WORDS)
        entry = next((word for word in words if isinstance(word, str | dict)), None)
        if isinstance(entry, dict):
            entry = next((entry[name] for name in _WORDS if isinstance(entry.get(name), str)), None)
    if not isinstance(entry, str):
        return ""
    text = entry.strip()
    return text if MIN_CHARS <= len(text) <= MAX_CHARS and "\x00" not in text else ""


def _digest(text: str) -> bytes:
    return hashlib.sha256(" ".join(text.casefold().split()).encode()).digest()
