"""Markdown stays as it is written; its headings are found."""

import re
from collections.abc import Iterator
from typing import Final

from octarm.cli.ingest.document import Heading

_FENCE: Final = re.compile(r" {0,3}(```+|~~~+)")
_ATX: Final = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?[ \t]*#*[ \t]*$")
_UNDERLINE: Final = re.compile(r" {0,3}(=+|-+)[ \t]*$")
LONGEST_HEADING: Final = 300


def headings_of(text: str) -> tuple[Heading, ...]:
    """Find the headings outside of code: `# Title`, and titles underlined with `=` or `-`."""
    return tuple(_headings(text))


def _headings(text: str) -> Iterator[Heading]:
    fence = ""
    before, before_start = "", 0
    place = 0
    for line in text.splitlines(keepends=True):
        start, place = place, place + len(line)
        bare = line.rstrip("\r\n")[: LONGEST_HEADING + 10]
        opened = _FENCE.match(bare)
        if fence:
            if opened and opened[1].startswith(fence):
                fence = ""
            before = ""
            continue
        if opened:
            fence, before = opened[1], ""
            continue
        heading = _heading(bare, start, before, before_start)
        if heading:
            yield heading
        before, before_start = ("" if heading else bare.strip()), start


def _heading(line: str, start: int, before: str, before_start: int) -> Heading | None:
    atx = _ATX.match(line)
    if atx:
        return Heading(start, len(atx[1]), _plain(atx[2] or ""))
    underline = _UNDERLINE.match(line)
    # A list, a table or a rule may stand above dashes, too.
    if underline and before and not re.match(r"[-*+|>#]|\d+[.)] ", before):
        return Heading(before_start, 1 if underline[1][0] == "=" else 2, _plain(before))
    return None


def _plain(title: str) -> str:
    """Leave out what marks code and emphasis, and the addresses of links."""
    title = re.sub(r"!?\[([^\]\[]*)\]\([^)(]*\)", r"\1", title)
    return re.sub(r"[`*]", "", title).strip()
