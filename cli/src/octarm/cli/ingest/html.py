"""HTML as text: what a reader would see, with headings and paragraphs."""

import re
from html.parser import HTMLParser
from typing import Final

from octarm.cli.ingest.document import Heading, Unreadable

_HIDDEN: Final = {"script", "style", "template", "noscript", "svg", "math", "iframe", "object"}
_BLOCKS: Final = {
    *("address", "article", "aside", "blockquote", "body", "dd", "details", "dialog", "div", "dl"),
    *("dt", "fieldset", "figcaption", "figure", "footer", "form", "header", "hr", "legend", "li"),
    *("main", "nav", "ol", "p", "pre", "section", "summary", "table", "tr", "ul", "caption"),
    *("h1", "h2", "h3", "h4", "h5", "h6"),
}
_PARAGRAPHS: Final = _BLOCKS - {"li", "tr", "dt", "dd"}
_SPACE: Final = re.compile(r"[ \t\r\n\f]+")


def text_of(html: str) -> tuple[str, tuple[Heading, ...]]:
    """Give the text and its headings; the page's title is one if it has none of the first level.

    Raises:
        Unreadable: its declarations make no sense.
    """
    page = _Page()
    try:
        page.feed(html)
        page.close()
    except AssertionError as error:
        raise Unreadable(f"broken HTML: {error}"[:200]) from None
    headings = tuple(page.headings)
    title = _SPACE.sub(" ", page.title).strip()
    if title and all(heading.level > 1 for heading in headings):
        headings = (Heading(0, 1, title), *headings)
    return page.text(), headings


class _Page(HTMLParser):
    """Collects pieces of text; `length` is that of all pieces together."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.headings: list[Heading] = []
        self.title = ""
        self._pieces: list[str] = []
        self._length = 0
        self._hidden = 0
        self._preformatted = 0
        self._in_title = False
        self._heading: tuple[int, int] | None = None

    def text(self) -> str:
        """Give what was collected."""
        return "".join(self._pieces).rstrip()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin a block; note headings."""
        if tag in _HIDDEN:
            self._hidden += 1
        elif tag == "title" and not self._hidden:
            self._in_title = True
        elif tag == "br":
            self._add("\n")
        elif tag in {"td", "th"} and self._ends_with_text():
            self._add("\t")
        elif tag in _BLOCKS:
            self._break(paragraph=tag in _PARAGRAPHS)
            self._preformatted += tag == "pre"
            if len(tag) == 2 and tag[0] == "h" and tag[1].isdigit():
                self._heading = (self._length, int(tag[1]))

    def handle_endtag(self, tag: str) -> None:
        """End a block."""
        if tag in _HIDDEN:
            self._hidden = max(0, self._hidden - 1)
        elif tag == "title":
            self._in_title = False
        elif tag in _BLOCKS:
            if self._heading and tag == f"h{self._heading[1]}":
                self._end_heading()
            self._preformatted = max(0, self._preformatted - (tag == "pre"))
            self._break(paragraph=tag in _PARAGRAPHS)

    def handle_data(self, data: str) -> None:
        """Add text; outside of `pre`, white space is one space."""
        if self._in_title:
            self.title += data
        elif not self._hidden:
            if not self._preformatted:
                data = _SPACE.sub(" ", data)
                if not self._ends_with_text():
                    data = data.lstrip(" ")
            self._add(data)

    def _end_heading(self) -> None:
        assert self._heading is not None
        start, level = self._heading
        title = self._since(start).strip()
        if title:
            self.headings.append(Heading(start, level, title))
        self._heading = None

    def _since(self, start: int) -> str:
        taken: list[str] = []
        length = self._length
        for piece in reversed(self._pieces):
            if length <= start:
                break
            taken.append(piece)
            length -= len(piece)
        return "".join(reversed(taken))

    def _ends_with_text(self) -> bool:
        return bool(self._pieces) and not self._pieces[-1][-1].isspace()

    def _break(self, *, paragraph: bool) -> None:
        if not self._pieces:
            return
        last = "".join(self._pieces[-2:])
        wanted = "\n\n" if paragraph else "\n"
        have = len(last) - len(last.rstrip("\n"))
        if have < len(wanted):
            self._add("\n" * (len(wanted) - have))

    def _add(self, text: str) -> None:
        if text:
            self._pieces.append(text)
            self._length += len(text)
