"""Text without personal data and secrets: each is replaced by its kind, as `<EMAIL>`.

Pure, and linear in the length of the text whatever it holds. A net with holes: it catches
the shapes in which such data usually comes, not every one. Access is what protects data.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from octarm.common.redaction.kinds import DEFAULT_KINDS, Finding, Kind
from octarm.common.redaction.personal import PERSONAL
from octarm.common.redaction.secrets import SECRETS, is_secret_name

__all__ = ["DEFAULT_KINDS", "Finding", "Kind", "Redacted", "redact", "redact_json"]

# In the order of precedence: where two overlap, the first gives the kind.
_RULES: Final = (*SECRETS, *PERSONAL)


@dataclass(frozen=True, slots=True)
class Redacted:
    """A text without what was found; the findings are in the order of the original text."""

    text: str
    findings: tuple[Finding, ...] = ()


def redact(text: str, *, kinds: Collection[Kind] = DEFAULT_KINDS) -> Redacted:
    """Replace what looks like one of `kinds`; overlapping findings become one.

    SHA-256 digests and UUIDs survive unless a secret's name stands before them. The spans of
    the findings count characters of the original text.
    """
    findings = _merged(sorted(_found(text, kinds), key=lambda one: (one[0].start, one[1])))
    if not findings:
        return Redacted(text)
    pieces: list[str] = []
    place = 0
    for finding in findings:
        pieces += (text[place : finding.start], f"<{finding.kind}>")
        place = finding.end
    pieces.append(text[place:])
    return Redacted("".join(pieces), findings)


def redact_json(
    value: JsonValue, *, kinds: Collection[Kind] = DEFAULT_KINDS
) -> tuple[JsonValue, tuple[Kind, ...]]:
    """Replace in every text of a JSON value, keys included; also gives the kinds found.

    A text below a key that names a secret (`{"password": "…"}`) is one, whatever it holds.
    """
    if isinstance(value, str):
        redacted = redact(value, kinds=kinds)
        return redacted.text, tuple(finding.kind for finding in redacted.findings)
    if isinstance(value, list):
        parts = [redact_json(one, kinds=kinds) for one in value]
        return [part for part, _ in parts], tuple(kind for _, found in parts for kind in found)
    if not isinstance(value, dict):
        return value, ()
    clean: dict[str, JsonValue] = {}
    found: tuple[Kind, ...]
    all_found: list[Kind] = []
    for key, inner in value.items():
        redacted = redact(key, kinds=kinds)
        all_found += (finding.kind for finding in redacted.findings)
        if "PASSWORD" in kinds and isinstance(inner, str) and inner and is_secret_name(key):
            inner, found = "<PASSWORD>", ("PASSWORD",)
        else:
            inner, found = redact_json(inner, kinds=kinds)
        clean[_free(redacted.text, clean)] = inner
        all_found += found
    return clean, tuple(all_found)


def _free(key: str, taken: Collection[str]) -> str:
    """Give a key that is not taken: two that are redacted alike both stay."""
    free, number = key, 2
    while free in taken:
        free, number = f"{key} {number}", number + 1
    return free


def _found(text: str, kinds: Collection[Kind]) -> Iterator[tuple[Finding, int]]:
    for rank, rule in enumerate(_RULES):
        if rule.kind in kinds:
            for start, end in rule.spans(text):
                yield Finding(rule.kind, start, end), rank


def _merged(found: list[tuple[Finding, int]]) -> tuple[Finding, ...]:
    """Join what overlaps: nothing of either may remain."""
    merged: list[tuple[Finding, int]] = []
    for finding, rank in found:
        if not merged or finding.start >= merged[-1][0].end:
            merged.append((finding, rank))
            continue
        last, last_rank = merged[-1]
        kind = finding.kind if rank < last_rank else last.kind
        joined = Finding(kind, last.start, max(last.end, finding.end))
        merged[-1] = (joined, min(rank, last_rank))
    return tuple(finding for finding, _ in merged)
