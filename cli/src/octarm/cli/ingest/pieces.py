"""Pieces of documents as memories: what is said, where it stands, and under which id."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from octarm.cli.ingest.chunking import SIZE, Chunk, chunks_of
from octarm.cli.ingest.document import Document, digest_of
from octarm.models.ids import derived_id

# Raise it when the same document is cut, or told of, in another way than before.
CUTTER: Final = 1
COLLECTION_TAG: Final = "collection:"
SOURCE: Final = "ingest"
MAX_TITLE: Final = 120


@dataclass(frozen=True, slots=True)
class Cut:
    """How documents become memories: into which collection, under which tags, how large."""

    collection: str
    tags: Sequence[str] = ()
    size: int = SIZE
    overlap: int | None = None

    @property
    def tag(self) -> str:
        """What all memories of the collection bear."""
        return f"{COLLECTION_TAG}{self.collection}"

    def version_of(self, digest: str) -> str:
        """Name a state of a document: it changes with its bytes, and with how it is cut."""
        how = f"{CUTTER} {self.size} {self.overlap} {' '.join(sorted(self.tags))}"
        return digest_of(f"{digest} {how}".encode())


def key_of(name: str) -> str:
    """Give what knows a document in its collection."""
    return digest_of(name.encode())


def memories_of(document: Document, cut: Cut) -> list[dict[str, Any]]:
    """Give the memories of a document, as `NewMemory` in JSON.

    The id of each follows from collection, name, content and number, so that handing it in twice
    keeps it once, and another state of the document has none of the same.
    """
    chunks = chunks_of(document, size=cut.size, overlap=cut.overlap)
    return [_memory(document, chunk, cut, len(chunks)) for chunk in chunks]


def _memory(document: Document, chunk: Chunk, cut: Cut, pieces: int) -> dict[str, Any]:
    version = cut.version_of(document.digest)
    cause = "\n".join((cut.collection, document.name, version, str(chunk.number)))
    place: dict[str, Any] = {
        "document": document.name,
        # The name again: as it is shown, it may have lost what looks like personal data.
        "document_key": key_of(document.name),
        "document_version": version,
        "piece": chunk.number,
        "pieces": pieces,
        "start": chunk.start,
        "end": chunk.end,
        "headings": [title[:MAX_TITLE] for title in chunk.headings],
    }
    if chunk.page is not None:
        place["page"] = chunk.page
    return {
        "memory_id": derived_id("mem", cause, unix_ms=0),
        "entity_type": "artifact",
        "content": f"{_whereabouts(document, chunk)}\n\n{chunk.text}",
        "metadata": place,
        "tags": sorted({cut.tag, *cut.tags}),
        # Two places that say nearly the same are two places.
        "merge": False,
    }


def _whereabouts(document: Document, chunk: Chunk) -> str:
    """Say what the piece is about: many do not repeat the words of their headings."""
    titles = [title[:MAX_TITLE] for title in chunk.headings if title]
    return " › ".join((document.name, *titles))
