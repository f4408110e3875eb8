"""Bring a collection to the state of a folder: what is new, changed or gone; nothing else.

It may be ended at any point and run again: what was done is found done. A changed document's
new pieces are kept first, then its old ones are forgotten.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from octarm.cli.ingest.document import Unreadable, digest_of
from octarm.cli.ingest.folder import FoundFile, bytes_of, document_of, files_of, fits
from octarm.cli.ingest.pieces import Cut, key_of, memories_of
from octarm.cli.ingest.shelf import Kept, refused
from octarm.models.errors import Conflict, NotFound, OctarmError

Became = Literal["added", "changed", "unchanged", "forgotten", "failed"]


class Holder(Protocol):
    """Where a collection is held."""

    def kept(self) -> Iterator[Kept]:
        """Give all of it."""
        ...

    def remember(self, memories: Sequence[dict[str, Any]]) -> int:
        """Keep these; gives how many were new."""
        ...

    def forget(self, memory_id: str) -> None:
        """Delete one."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one document; `pieces` is how many it has, `why` what went wrong."""

    document: str
    became: Became
    pieces: int = 0
    why: str = ""


@dataclass(slots=True)
class Report:
    """What became of all of them."""

    outcomes: list[Outcome] = field(default_factory=list)
    pieces_added: int = 0
    pieces_forgotten: int = 0

    def count(self, became: Became) -> int:
        """Count the documents of which this became."""
        return sum(one.became == became for one in self.outcomes)


@dataclass(frozen=True, slots=True)
class Ingest:
    """Bring `shelf` to the state of `folder`; with patterns, only documents that fit one."""

    folder: Path
    shelf: Holder
    cut: Cut
    patterns: tuple[str, ...] = ()
    begun: Callable[[int], None] = lambda _: None
    told: Callable[[Outcome], None] = lambda _: None

    def __call__(self) -> Report:
        """Do it; a document that cannot be read, or is refused, does not keep the others back.

        Raises:
            NotFound: the folder cannot be listed, or has no documents.
            Conflict: the collection holds the documents of another folder.
            OctarmError: the gateway does not answer, or does not let us.
        """
        files = self._files()
        held: dict[str, list[Kept]] = {}
        for one in self.shelf.kept():
            if fits(one.document, self.patterns):
                held.setdefault(one.key, []).append(one)
        present = {key_of(file.name): file for file in files}
        if held and not present.keys() & held.keys():
            raise Conflict(
                f"collection {self.cut.collection!r} holds the documents of another folder",
                "Name another one with --collection; or erase this one first, with "
                f"octarm memory erase --tag {self.cut.tag}.",
                "ALREADY_EXISTS",
            )
        gone = sorted(held.keys() - present.keys(), key=lambda key: held[key][0].document)
        self.begun(len(files) + len(gone))
        report = Report()
        for key, file in present.items():
            self._note(report, self._take_in(file, held.get(key, []), report))
        for key in gone:
            self._forget(held[key], report)
            self._note(report, Outcome(held[key][0].document, "forgotten"))
        return report

    def _files(self) -> list[FoundFile]:
        try:
            files = files_of(self.folder, self.patterns)
        except Unreadable as why:
            raise NotFound(f"{self.folder}: {why}", "Name a folder.", "NOT_FOUND") from None
        if not files:
            raise NotFound(
                f"{self.folder}: no documents (Markdown, text, HTML, PDF)",
                "To forget a collection: octarm memory erase --tag collection:NAME.",
                "NOT_FOUND",
            )
        return files

    def _note(self, report: Report, outcome: Outcome) -> None:
        report.outcomes.append(outcome)
        self.told(outcome)

    def _take_in(self, file: FoundFile, kept: Sequence[Kept], report: Report) -> Outcome:
        try:
            data = bytes_of(file)
            version = self.cut.version_of(digest_of(data))
            if _is_whole(kept, version):
                return Outcome(file.name, "unchanged", len(kept))
            memories = memories_of(document_of(file, data), self.cut)
            there = {one.memory_id for one in kept}
            missing = [one for one in memories if one["memory_id"] not in there]
            report.pieces_added += self.shelf.remember(missing)
        except Unreadable as why:
            return Outcome(file.name, "failed", len(kept), str(why))
        except OctarmError as error:
            if not refused(error):
                raise
            return Outcome(file.name, "failed", len(kept), error.message)
        wanted = {one["memory_id"] for one in memories}
        self._forget([one for one in kept if one.memory_id not in wanted], report)
        return Outcome(file.name, "changed" if kept else "added", len(memories))

    def _forget(self, kept: Sequence[Kept], report: Report) -> None:
        for one in kept:
            self.shelf.forget(one.memory_id)
            report.pieces_forgotten += 1


def _is_whole(kept: Sequence[Kept], version: str) -> bool:
    """Tell whether all pieces of this state of a document are there, and none of another."""
    return bool(kept) and len(kept) == kept[0].pieces and {one.version for one in kept} == {version}
