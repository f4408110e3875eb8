"""The part of a text that says most about a question: pure, and a real part of the text."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Final

# Words of one stem meet when they begin alike for so long.
STEM: Final = 6
_WORD: Final = re.compile(r"\w+")
_SENTENCE_END: Final = re.compile(r"[.!?…。！？][\"'”’)\]]{0,3}\s+|\n+")
# A text of single letters, line by line, is looked through so far.
MAX_SENTENCES: Final = 4_000
# What nearly every English question has says nothing about this one.
_COMMON: Final = frozenset(
    _WORD.findall(
        "a an and are as at be by can do does for from has have how i in is it its may my of on"
        " or that the their they this to was were what when where which who why will with would"
        " you your"
    )
)


@dataclass(frozen=True, slots=True)
class Snippet:
    """A part of a text, from `start` to before `end`, and which words of the question it has."""

    text: str
    start: int
    end: int
    words: frozenset[str]


def words_of(text: str) -> frozenset[str]:
    """Give the telling words of a text, cut to their stems; all of them when none is telling."""
    words = _WORD.findall(text.casefold())
    return frozenset(word[:STEM] for word in words if word not in _COMMON) or frozenset(
        word[:STEM] for word in words
    )


def weights_of(words: Collection[str], texts: Sequence[str]) -> dict[str, float]:
    """Weigh each word by how few of the texts have it."""
    having = [words_of(text) for text in texts]
    return {
        word: log(1 + (len(texts) + 1) / (1 + sum(word in own for own in having))) for word in words
    }


def best_snippet(text: str, weights: Mapping[str, float], *, longest: int) -> Snippet:
    """Give the sentences, side by side and at most `longest` characters, that weigh most.

    Of equal ones the first. A sentence that is too long is cut around its telling words.
    """
    whole = _sentences(text)
    # A heading says what a passage is about, and nothing about it.
    said = [span for span in whole if not text.startswith("#", span[0])] or whole
    spans = [_around(text, span, weights, longest) for span in said]
    owned = [words_of(text[start:end]) & weights.keys() for start, end in spans]
    if not spans:
        return Snippet("", 0, 0, frozenset())
    _, first, last = max(
        (
            _from(place, spans, owned, weights=weights, longest=longest)
            for place in _worth_it(owned)
        ),
        key=lambda one: (one[0], -one[1]),
    )
    start, end = spans[first][0], spans[last][1]
    found = frozenset[str]().union(*owned[first : last + 1])
    return Snippet(text[start:end], start, end, found)


def _worth_it(owned: Sequence[frozenset[str]]) -> list[int]:
    """Give the sentences with which a snippet may begin: those that say something, else all."""
    return [place for place, words in enumerate(owned) if words] or [0]


def _from(
    first: int,
    spans: Sequence[tuple[int, int]],
    owned: Sequence[frozenset[str]],
    *,
    weights: Mapping[str, float],
    longest: int,
) -> tuple[float, int, int]:
    """Give the weight of the snippet that begins with a sentence, and where it ends best."""
    words: set[str] = set()
    weight, end = 0.0, first
    for last in range(first, len(spans)):
        if spans[last][1] - spans[first][0] > longest:
            break
        fresh = owned[last] - words
        # What adds nothing only makes it longer.
        if fresh:
            words |= fresh
            weight += sum(sorted(weights[word] for word in fresh))
            end = last
    return weight, first, end


def _sentences(text: str) -> list[tuple[int, int]]:
    """Give where sentences and lines stand, without the white space around them."""
    spans: list[tuple[int, int]] = []
    start = 0
    for end in [*(match.end() for match in _SENTENCE_END.finditer(text)), len(text)]:
        bare = text[start:end].strip()
        if bare:
            begin = text.index(bare[0], start)
            spans.append((begin, begin + len(bare)))
        start = end
        if len(spans) == MAX_SENTENCES:
            break
    return spans


def _around(
    text: str, span: tuple[int, int], weights: Mapping[str, float], longest: int
) -> tuple[int, int]:
    start, end = span
    if end - start <= longest:
        return start, end
    telling = [
        match.start()
        for match in _WORD.finditer(text, start, end)
        if match[0].casefold()[:STEM] in weights
    ]
    begin = max(start, (telling[0] if telling else start) - longest // 4)
    return begin, min(end, begin + longest)
