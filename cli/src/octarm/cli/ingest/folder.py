"""Find the documents of a folder and read them, whatever else lies there."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

from octarm.cli.ingest.child import Parsed, parsed
from octarm.cli.ingest.document import Document, Unreadable, digest_of
from octarm.cli.ingest.markdown import headings_of

MAX_FILES: Final = 100_000
MAX_TEXT_BYTES: Final = 8 * 1024 * 1024
MAX_PDF_BYTES: Final = 64 * 1024 * 1024
SKIPPED_FOLDERS: Final = {"node_modules", "__pycache__"}
KINDS: Final = {
    ".md": "markdown",
    ".markdown": "markdown",
    ".txt": "text",
    ".text": "text",
    ".rst": "text",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".pdf": "pdf",
}


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file below the folder; `name` is its path there, with slashes."""

    path: Path
    name: str

    @property
    def kind(self) -> str:
        """Which reader it takes."""
        return KINDS[self.path.suffix.lower()]


def files_of(folder: Path, patterns: tuple[str, ...] = ()) -> list[FoundFile]:
    """List the files that can be read, by name; hidden ones and symbolic links are left out.

    With patterns, only those whose name or path below the folder fits one.

    Raises:
        Unreadable: there are more than a hundred thousand, or the folder cannot be listed.
    """
    found: list[FoundFile] = []
    for name in _names(folder):
        if Path(name).suffix.lower() not in KINDS:
            continue
        if not fits(name, patterns):
            continue
        found.append(FoundFile(folder / name, name))
        if len(found) > MAX_FILES:
            raise Unreadable(f"more than {MAX_FILES:,} files")
    return sorted(found, key=lambda file: file.name)


def fits(name: str, patterns: tuple[str, ...]) -> bool:
    """Tell whether a name, or a path below the folder, fits one of the patterns, if any."""
    return not patterns or any(
        fnmatch(name, pattern) or fnmatch(Path(name).name, pattern) for pattern in patterns
    )


def _names(folder: Path) -> Iterator[str]:
    def refuse(error: OSError) -> None:
        if Path(error.filename or "") == folder:
            raise Unreadable(error.strerror or "cannot be listed") from error

    for root, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [f for f in folders if not f.startswith(".") and f not in SKIPPED_FOLDERS]
        for name in names:
            path = Path(root, name)
            if not name.startswith(".") and not path.is_symlink() and path.is_file():
                yield path.relative_to(folder).as_posix()


def bytes_of(file: FoundFile) -> bytes:
    """Read a file whole.

    Raises:
        Unreadable: it is too large, gone, no file any more, or must not be read.
    """
    limit = MAX_PDF_BYTES if file.kind == "pdf" else MAX_TEXT_BYTES
    try:
        file.name.encode()
        # It may have become something else since it was found.
        descriptor = os.open(file.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as opened:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise Unreadable("not a file")
            data = opened.read(limit + 1)
    except UnicodeEncodeError:
        raise Unreadable("its name is not UTF-8") from None
    except OSError as error:
        raise Unreadable(error.strerror or "cannot be read") from None
    if len(data) > limit:
        raise Unreadable(f"larger than {limit // (1024 * 1024)} MiB")
    return data


def document_of(file: FoundFile, data: bytes) -> Document:
    """Read the text of a file.

    Raises:
        Unreadable: it is not what its name says, or holds no text.
    """
    if file.kind in {"html", "pdf"}:
        found = parsed(file.kind, data)
    else:
        text = _decoded(data)
        found = Parsed(text, headings_of(text) if file.kind == "markdown" else ())
    # What Postgres cannot keep is no text; as long, so that offsets stay.
    text = found.text.replace("\0", "\ufffd")
    if not text.strip():
        raise Unreadable("no text in it")
    return Document(file.name, text, digest_of(data), found.headings, found.pages)


def _decoded(data: bytes) -> str:
    if b"\0" in data[:8192]:
        raise Unreadable("binary")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Unreadable("not UTF-8") from None
