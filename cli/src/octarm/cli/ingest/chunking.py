"""Cut a document into pieces of bounded size that overlap a little: pure.

A piece is a real part of the text, from `start` to before `end`, so that a citation can be
looked up. Cuts are made, in this order of preference, before a heading, between paragraphs,
between sentences or lines, between words, and only then anywhere.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from octarm.cli.ingest.document import Document, Heading, digest_of

SIZE: Final = 1_200

_PARAGRAPH_END: Final = re.compile(r"\n(?:[ \t]*\n)+")
_FENCE: Final = re.compile(r"^ {0,3}(```+|~~~+)", re.MULTILINE)
_LINE_END: Final = re.compile(r"\n")
_SENTENCE_END: Final = re.compile(
    r"[.!?…。！？][\"'”’)\]]{0,3}\s+|\n(?=\s{0,8}(?:[-*+|>#]|\d{1,3}[.)]))"
)


class _Unit(NamedTuple):
    """What is not cut again; a better place to cut has a higher `rank`."""

    start: int
    end: int
    rank: int


_IN_A_SENTENCE, _SENTENCE, _PARAGRAPH, _HEADING = range(4)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece: `text` is that of the document from `start` to before `end`."""

    number: int
    start: int
    end: int
    text: str
    headings: tuple[str, ...] = ()
    page: int | None = None

    @property
    def digest(self) -> str:
        """The SHA-256 hex of the text, in UTF-8."""
        return digest_of(self.text.encode())


def chunks_of(document: Document, *, size: int = SIZE, overlap: int | None = None) -> list[Chunk]:
    """Cut into pieces of at most `size` characters; the same document gives the same pieces.

    Each begins with up to `overlap` characters of the one before it, unless a heading is between.
    Nothing but white space is left out. Without `overlap` it is an eighth of the size.

    Raises:
        ValueError: the overlap is more than a quarter of the size, or the size below 80.
    """
    overlap = size // 8 if overlap is None else overlap
    if size < 80 or not 0 <= overlap <= size // 4:
        raise ValueError("size must be at least 80, and overlap at most a quarter of it")
    units = list(_units(document, size))
    trail = _Trail(document.headings)
    chunks: list[Chunk] = []
    first = 0
    while first < len(units):
        after = _filled(units, first, size)
        start, end = units[first].start, units[after - 1].end
        text = document.text[start:end]
        place = trail.titles_at(start), document.page_of(start)
        chunks.append(Chunk(len(chunks), start, end, text, *place))
        first = _next_start(units, first, after, overlap) if after < len(units) else after
    return chunks


class _Trail:
    """The titles under which one stands, on the way through a document."""

    def __init__(self, headings: tuple[Heading, ...]) -> None:
        self._coming = iter(headings)
        self._next = next(self._coming, None)
        self._path: list[Heading] = []

    def titles_at(self, place: int) -> tuple[str, ...]:
        """Give them, the highest first; places are asked for in their order."""
        while self._next and self._next.start <= place:
            while self._path and self._path[-1].level >= self._next.level:
                self._path.pop()
            self._path.append(self._next)
            self._next = next(self._coming, None)
        return tuple(heading.title for heading in self._path)


def _filled(units: list[_Unit], first: int, size: int) -> int:
    """Find after which unit to cut: the best place in the second half of what fits."""
    start = units[first].start
    after = first + 1
    while after < len(units) and units[after].end - start <= size:
        after += 1
        if units[after - 1].rank == _HEADING and units[after - 2].end - start >= size // 4:
            return after - 1
    if after == len(units):
        return after
    best = after
    for cut in range(after, first, -1):
        if units[cut - 1].end - start < size // 2:
            break
        if units[cut].rank > units[best].rank:
            best = cut
    return best


def _next_start(units: list[_Unit], first: int, after: int, overlap: int) -> int:
    """Step back over what the next piece repeats; at least one unit further than this one."""
    begin = after
    while begin - 1 > first and units[begin].rank != _HEADING:
        if units[after - 1].end - units[begin - 1].start > overlap:
            break
        begin -= 1
    return begin


def _units(document: Document, size: int) -> Iterator[_Unit]:
    """Cut the text as finely as it may be cut; a unit is at most `size` long."""
    text = document.text
    headings = {heading.start for heading in document.headings}
    # A unit is small enough that a repetition and what must follow it fit into one piece.
    longest = size // 2
    for paragraph_start, paragraph_end in _paragraphs(text, headings):
        rank = _HEADING if paragraph_start in headings else _PARAGRAPH
        for start, end in _parts(text, paragraph_start, paragraph_end):
            for piece_start, piece_end in _pieces(text, start, end, longest):
                yield _Unit(piece_start, piece_end, rank)
                rank = _IN_A_SENTENCE
            rank = _SENTENCE


def _paragraphs(text: str, headings: set[int]) -> Iterator[tuple[int, int]]:
    cuts = sorted({0, len(text), *headings, *(m.end() for m in _PARAGRAPH_END.finditer(text))})
    fenced = _fenced(text)
    inside = next(fenced, None)
    start = 0
    for cut in cuts[1:]:
        while inside and cut >= inside[1]:
            inside = next(fenced, None)
        # Code is one paragraph, its empty lines included.
        if inside and inside[0] < cut < inside[1]:
            continue
        yield start, cut
        start = cut


def _fenced(text: str) -> Iterator[tuple[int, int]]:
    opened: re.Match[str] | None = None
    for fence in _FENCE.finditer(text):
        if opened is None:
            opened = fence
        elif fence[1].startswith(opened[1]):
            yield opened.start(), fence.end()
            opened = None


def _parts(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Give sentences, and the lines of lists, tables and code."""
    stop = _LINE_END if _FENCE.match(text, start) else _SENTENCE_END
    for cut in [*(match.end() for match in stop.finditer(text, start, end)), end]:
        if cut > start:
            yield start, cut
        start = max(start, cut)


def _pieces(text: str, start: int, end: int, longest: int) -> Iterator[tuple[int, int]]:
    """Trim, and cut what is too long between words, else anywhere."""
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    while end - start > longest:
        cut = text.rfind(" ", start + longest // 2, start + longest)
        newline = text.rfind("\n", start + longest // 2, start + longest)
        cut = max(cut, newline)
        cut = start + longest if cut < 0 else cut
        yield start, cut
        start = cut
        while start < end and text[start].isspace():
            start += 1
    if start < end:
        yield start, end
