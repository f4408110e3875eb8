"""Turn text into a vector without a model: signed hashing of words, word pairs and letters.

After Weinberger et al., "Feature Hashing for Large Scale Multitask Learning" (2009): each
feature adds or subtracts its weight at one place, so that collisions cancel out on average.
Letter groups let words of one stem meet. It knows no synonyms; it needs nothing, either, and the
same text gives the same vector in every process, for ever (its name carries a version).
"""

import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from math import log1p, sqrt
from typing import Final
from zlib import crc32

DIMENSION: Final = 256
NAME: Final = f"hashing-{DIMENSION}-v1"
# A text without a single word still has to point somewhere.
NOTHING: Final = "\x00"
MAX_WORDS: Final = 4_000
WORD: Final = 1.0
PAIR: Final = 0.5
LETTERS: Final = 0.25
GROUP: Final = 4
_WORDS: Final = re.compile(r"\w+")
# What nearly every English text has says nothing about this one.
_COMMON: Final = frozenset(
    re.findall(
        r"\w+",
        "a an and are as at be but by can did do does for from had has have he her his how i if in"
        " into is it its may me more most my no not of on or our she so than that the their them"
        " then there these they this to was we were what when where which who why will with would"
        " you your",
    )
)


def hashed(text: str, dimension: int = DIMENSION) -> list[float]:
    """Give the vector of a text, of length 1."""
    vector = [0.0] * dimension
    for feature, weight in _features(text):
        place = crc32(feature.encode())
        if place & 0x80000000:
            weight = -weight
        vector[place % dimension] += weight
    length = sqrt(sum(part * part for part in vector))
    if not length:
        return hashed(NOTHING, dimension) if text != NOTHING else [1.0] + [0.0] * (dimension - 1)
    return [part / length for part in vector]


def _features(text: str) -> Iterator[tuple[str, float]]:
    words = _WORDS.findall(text.casefold())[:MAX_WORDS]
    telling = [word for word in words if word not in _COMMON] or words
    for word, times in Counter(telling).items():
        often = 1 + log1p(times - 1)
        yield word, WORD * often
        # As much in all for a long word as for a short one.
        groups = _groups(word)
        for group in groups:
            yield group, LETTERS * often * 2 / sqrt(len(groups))
    pairs = Counter(pairwise(telling))
    for (one, other), times in pairs.items():
        yield f"{one} {other}", PAIR * (1 + log1p(times - 1))


def _groups(word: str) -> list[str]:
    """Give the letter groups of a word with its borders: `^wo`, `wor`, …"""
    whole = f"^{word}$"
    return [f"#{whole[at : at + GROUP]}" for at in range(max(1, len(whole) - GROUP + 1))]
