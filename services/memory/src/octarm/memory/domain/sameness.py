"""When two memories say the same, or something else about the same.

1. The same content (SHA-256) of the same type is known already.
2. The same `subject` and `predicate` in the metadata: the newer one holds, the other is history.
3. Nearly the same words, and the same numbers and negations: merged.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from operator import mul
from typing import Any, Final

# How near (cosine) a text must be to be the same thing said again. Of another source it must be
# nearer: who repeats himself means the same, who agrees may mean something else.
NEAR: Final = 0.95
NEAR_OF_ANOTHER: Final = 0.98
MAX_KEY_CHARS: Final = 1_000
# Two texts that differ in one of these are near, and say opposite things.
_DECISIVE: Final = re.compile(
    r"no|not|never|none|neither|nor|without|cannot|\w+n't|before|after|above|below|under|over|more"
    r"|less|true|false|on|off|enabled|disabled|always|yes|up|down|left|right|min|max|minimum"
    r"|maximum|only|except|.*\d.*"
)
_TOKENS: Final = re.compile(r"[\w']+")


def content_hash(content: str) -> str:
    """Give the SHA-256 hex of a content."""
    return hashlib.sha256(content.encode()).hexdigest()


def fact_key(metadata: Mapping[str, Any]) -> bytes | None:
    """Give what a memory is about, if its metadata says so; None otherwise."""
    about = [metadata.get("subject"), metadata.get("predicate")]
    if not all(isinstance(part, str) and 0 < len(part.strip()) <= MAX_KEY_CHARS for part in about):
        return None
    folded = "\x00".join(" ".join(str(part).casefold().split()) for part in about)
    return hashlib.sha256(folded.encode()).digest()


def says_the_same(one: str, other: str, *, similarity: float, same_source: bool) -> bool:
    """Tell whether two contents of one type are one thing said twice.

    `similarity` is the cosine of their vectors. A number or a negation that only one of them has
    keeps them apart, however near they are.
    """
    if similarity < (NEAR if same_source else NEAR_OF_ANOTHER):
        return False
    return _decisive(one) == _decisive(other)


def _decisive(text: str) -> list[str]:
    words = _TOKENS.findall(text.casefold())
    return sorted(word for word in words if _DECISIVE.fullmatch(word))


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """Give the cosine of two vectors of length 1."""
    return float(sum(map(mul, one, other)))
