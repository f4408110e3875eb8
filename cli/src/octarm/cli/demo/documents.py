"""Find the text files of a folder and read them, whatever else lies there."""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

MAX_BYTES: Final = 64 * 1024
"""Of each file; a task may carry 128 KiB of context as JSON."""
MAX_ENCODED_BYTES: Final = 120 * 1024
MAX_SCANNED: Final = 20_000
SKIPPED_FOLDERS: Final = {"node_modules", "__pycache__"}


@dataclass(frozen=True, slots=True)
class Document:
    """One text file; `text` is its beginning when it was too large (`cut`)."""

    name: str
    text: str
    cut: bool = False

    @property
    def words(self) -> int:
        """How many words `text` has, counted here to check what the arm answers."""
        return len(self.text.split())

    @property
    def sha256(self) -> str:
        """SHA-256 hex of `text` in UTF-8: of the whole file unless it was cut."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(slots=True)
class Found:
    """What a folder holds: the documents to work on, and what was left out."""

    documents: list[Document] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    beyond_limit: int = 0


def collect(folder: Path, pattern: str, limit: int) -> Found:
    """Read the first `limit` text files below `folder` by name; hidden folders are left out."""
    found = Found()
    for path in sorted(_files(folder, pattern)):
        if len(found.documents) >= limit:
            found.beyond_limit += 1
            continue
        name = os.path.relpath(path, folder)
        try:
            document = _read(path, name)
        except _NotText as reason:
            found.skipped.append((name, str(reason)))
        else:
            found.documents.append(document)
    return found


class _NotText(Exception):
    """The file cannot be worked on; the message says why."""


def _files(folder: Path, pattern: str) -> Iterator[Path]:
    scanned = 0
    for root, folders, names in os.walk(folder):
        folders[:] = [f for f in folders if not f.startswith(".") and f not in SKIPPED_FOLDERS]
        for name in names:
            scanned += 1
            if scanned > MAX_SCANNED:
                return
            path = Path(root, name)
            if fnmatch(name, pattern) and path.is_file():
                yield path


def _read(path: Path, name: str) -> Document:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise _NotText(error.strerror or "cannot be read") from None
    if b"\0" in data:
        raise _NotText("binary")
    cut = len(data) > MAX_BYTES
    text = _decoded(data[:MAX_BYTES], cut=cut)
    if not text.strip():
        raise _NotText("empty")
    while len(json.dumps(text, ensure_ascii=False).encode()) > MAX_ENCODED_BYTES:
        text, cut = text[: len(text) * 3 // 4], True
    return Document(name, text, cut)


def _decoded(data: bytes, *, cut: bool) -> str:
    # The cut may have gone through a character of up to four bytes.
    for spare in range(4 if cut else 1):
        try:
            return data[: len(data) - spare].decode("utf-8")
        except UnicodeDecodeError:
            continue
    raise _NotText("not UTF-8")
