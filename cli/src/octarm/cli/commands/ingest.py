"""`octarm memory ingest`: a folder of documents into memory."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.text import Text

from octarm.cli.command import Session, command
from octarm.cli.ingest.chunking import SIZE
from octarm.cli.ingest.pieces import COLLECTION_TAG, Cut
from octarm.cli.ingest.run import Ingest, Outcome, Report
from octarm.cli.ingest.shelf import Shelf
from octarm.cli.output import note, print_json, print_lines, stderr
from octarm.cli.text import clean
from octarm.models.errors import InvalidRequest
from octarm.models.ids import TAG_PATTERN

MAX_COLLECTION: Final = 64 - len(COLLECTION_TAG)
MAX_TAGS: Final = 20


@dataclass(frozen=True, slots=True)
class How:
    """How the folder is taken in."""

    collection: Annotated[
        str, typer.Option("--collection", help="Its name in memory; by default the folder's.")
    ] = ""
    pattern: Annotated[
        list[str] | None,
        typer.Option("--pattern", help="Only files like this, as *.md; may be repeated."),
    ] = None
    tag: Annotated[
        list[str] | None, typer.Option("--tag", "-t", help="One more tag; may be repeated.")
    ] = None
    size: Annotated[
        int, typer.Option("--size", min=80, max=20_000, help="Most characters of a piece.")
    ] = SIZE
    overlap: Annotated[
        int | None,
        typer.Option("--overlap", min=0, help="Characters repeated; by default an eighth."),
    ] = None


def register(group: typer.Typer) -> None:
    """Add the command."""
    command(
        group,
        "ingest",
        options=How,
        examples=(
            "octarm memory ingest docs",
            "octarm memory ingest ~/papers --collection papers --pattern '*.pdf'",
            "octarm memory ingest docs --json",
        ),
    )(ingest)


def ingest(
    session: Session,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the documents are.")],
    options: How,
) -> None:
    """Take a folder's Markdown, text, HTML and PDF into memory, piece by piece.

    Run it again at any time: only what is new or changed is taken in, and what is gone is
    forgotten. It may be interrupted; the next run goes on. Exit code 1 if a document failed.
    """
    folder = folder.expanduser().resolve()
    cut = _cut(folder, options)
    with session.gateway() as gateway, _shown(quiet=session.json) as shown:
        patterns = tuple(options.pattern or ())
        shelf = Shelf(gateway, cut.tag)
        run = Ingest(folder, shelf, cut, patterns, begun=shown.begun, told=shown.told)
        report = run()
    counted = _counted(report, cut)
    if session.json:
        print_json({**counted, "failures": _failures(report)})
    else:
        print_lines(", ".join(f"{name} {count}" for name, count in counted.items()))
    if report.count("failed"):
        raise typer.Exit(1)


def _cut(folder: Path, options: How) -> Cut:
    """
    Raises:
        InvalidRequest: a name or tag that memory would not take, or an overlap that is too large.
    """
    name = options.collection or re.sub(r"[^a-z0-9_.]+", "-", folder.name.lower()).strip("-")
    for tag in (name, *(options.tag or ())):
        if not re.fullmatch(TAG_PATTERN, tag) or len(tag) > 64:
            raise InvalidRequest(
                f"{tag!r} cannot be a tag", "Use a-z, 0-9 and _ . : / @ -; at most 64 of them."
            )
    if len(name) > MAX_COLLECTION:
        raise InvalidRequest(
            f"{name!r} is too long for a collection", f"At most {MAX_COLLECTION} characters."
        )
    if len(options.tag or ()) > MAX_TAGS:
        raise InvalidRequest(f"more than {MAX_TAGS} tags")
    if options.overlap is not None and options.overlap > options.size // 4:
        raise InvalidRequest("--overlap: at most a quarter of --size")
    return Cut(name, tuple(options.tag or ()), options.size, options.overlap)


def _counted(report: Report, cut: Cut) -> dict[str, Any]:
    return {
        "collection": cut.collection,
        "added": report.count("added"),
        "changed": report.count("changed"),
        "unchanged": report.count("unchanged"),
        "forgotten": report.count("forgotten"),
        "failed": report.count("failed"),
        "pieces_added": report.pieces_added,
        "pieces_forgotten": report.pieces_forgotten,
    }


def _failures(report: Report) -> list[dict[str, Any]]:
    failed = [one for one in report.outcomes if one.became == "failed"]
    return [{"document": one.document, "why": one.why} for one in failed]


@dataclass(slots=True)
class _Shown:
    """Shows progress: a bar on a terminal, a line for each document elsewhere."""

    quiet: bool
    bar: Progress | None = None
    task: TaskID | None = None
    done: int = 0
    total: int = 0

    def begun(self, total: int) -> None:
        """Take the number of documents."""
        self.total = total
        if self.bar is not None:
            self.task = self.bar.add_task("documents", total=total)

    def told(self, outcome: Outcome) -> None:
        """Show what became of one."""
        self.done += 1
        if self.bar is not None and self.task is not None:
            self.bar.advance(self.task)
        if self.quiet or (self.bar is not None and outcome.became != "failed"):
            return
        detail = outcome.why or f"{outcome.pieces} pieces"
        line = f"{self.done}/{self.total} {outcome.became} {outcome.document}: {detail}"
        if self.bar is None:
            note(line)
        else:
            self.bar.console.print(Text(clean(line)), soft_wrap=True)


@contextmanager
def _shown(*, quiet: bool) -> Iterator[_Shown]:
    console = stderr()
    if quiet or not console.is_terminal:
        yield _Shown(quiet)
        return
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=40), MofNCompleteColumn())
    with Progress(*columns, console=console) as bar:
        yield _Shown(quiet, bar)
