"""`octarm memory reembed`: all vectors made anew by the embedder in use."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Final

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from octarm.cli.command import Session, command
from octarm.cli.http import Gateway
from octarm.cli.output import note, pairs, stderr

PATH: Final = "/v1/memory/reembedding"
LOOK_EVERY_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class How:
    """Whether it is begun, and waited for."""

    status: Annotated[bool, typer.Option("--status", help="Only show how far it is.")] = False
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait for its end.")] = False


def register(group: typer.Typer) -> None:
    """Add the command."""
    command(
        group,
        "reembed",
        options=How,
        examples=(
            "octarm memory reembed",
            "octarm memory reembed --detach",
            "octarm memory reembed --status --json",
        ),
    )(reembed)


def reembed(session: Session, options: How) -> None:
    """Have all vectors made by the embedder that memory uses now; for operators.

    Run it after another embedder was configured. Searches go on meanwhile. It runs in the memory
    service: what is under way goes on when this is interrupted or the service restarts, and running
    this again shows it.
    """
    with session.gateway() as gateway:
        if options.status:
            found = gateway.get(PATH)
        else:
            found = gateway.post(PATH, {})
            if not options.detach:
                found = _done(gateway, found, quiet=session.json)
    if session.answer(found):
        return
    pairs(
        [
            ("embedder", found["embedder"]),
            ("dimension", found["dimension"]),
            ("state", "running" if found["running"] else "at rest"),
            ("done", f"{found['done']:,} of {found['total']:,}"),
            ("without its vector", f"{found['left']:,}"),
            ("started", found.get("started_at")),
            ("finished", found.get("finished_at")),
        ]
    )


def _done(gateway: Gateway, found: dict[str, Any], *, quiet: bool) -> dict[str, Any]:
    with _bar(quiet=quiet) as bar:
        task = bar.add_task("vectors", total=found["total"], completed=found["done"])
        while found["running"]:
            time.sleep(LOOK_EVERY_S)
            found = gateway.get(PATH)
            bar.update(task, total=found["total"], completed=found["done"])
    return found


@contextmanager
def _bar(*, quiet: bool) -> Iterator[Progress]:
    console = stderr()
    shown = console.is_terminal and not quiet
    if not shown and not quiet:
        note("waiting for all vectors")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not shown) as bar:
        yield bar
