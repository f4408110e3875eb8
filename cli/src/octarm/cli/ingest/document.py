"""A document as its readers give it: a text, and where its headings and pages begin."""

import hashlib
from bisect import bisect_right
from dataclasses import dataclass


class Unreadable(Exception):
    """The file cannot be taken in; the message says why. The others are not affected."""


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading of level 1 (the highest) to 6, at `start` of the text."""

    start: int
    level: int
    title: str


@dataclass(frozen=True, slots=True)
class Document:
    """A file's text. Offsets count characters of `text`; headings are in their order.

    `name` is the path below the folder, with slashes. `pages` are the offsets at which pages
    begin, for a format that has them. `digest` is the SHA-256 hex of the file's bytes.
    """

    name: str
    text: str
    digest: str
    headings: tuple[Heading, ...] = ()
    pages: tuple[int, ...] = ()

    def page_of(self, place: int) -> int | None:
        """Give the number of the page on which `place` stands, from 1."""
        return bisect_right(self.pages, place) if self.pages else None


def digest_of(data: bytes) -> str:
    """Give the SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
