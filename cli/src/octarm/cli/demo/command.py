"""`octarm demo`."""

from pathlib import Path
from typing import Annotated

import typer

from octarm.cli.command import Session, command
from octarm.cli.demo.documents import collect
from octarm.cli.output import note
from octarm.models.errors import InvalidRequest, Unavailable

SAFETY = (
    "Install it (Debian: apt-get install bubblewrap util-linux), or allow the word count to "
    "run without a sandbox: --unsafe."
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(
        app,
        "demo",
        remote=False,
        examples=("octarm demo", "octarm demo --folder ~/notes --limit 30"),
    )(demo)


def demo(
    session: Session,
    folder: Annotated[
        Path | None,
        typer.Option("--folder", help="Text files; by default the Markdown files below here."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="Most files.")] = 12,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the stack's data and logs.")] = False,
    unsafe: Annotated[
        bool, typer.Option("--unsafe", help="Count words without a sandbox if there is none.")
    ] = False,
) -> None:
    """Summarise the files of a folder and count their words, on a stack of its own.

    Starts everything in a temporary folder, works on up to --limit files with the local
    model and the sandbox, kills an arm in the middle, and stops everything again.
    """
    from octarm.cli.demo.report import console, results_document
    from octarm.cli.demo.show import Demo
    from octarm.cli.stack.arms import why_not

    where = folder or Path()
    if not where.is_dir():
        raise InvalidRequest(f"{where} is not a folder", "Name a folder of text files.")
    for arm in ("executor", "llm"):
        if reason := why_not(arm, {"OCTARM_EXECUTOR_UNSAFE": "1" if unsafe else ""}):
            hint = SAFETY if arm == "executor" else "Install it: uv sync."
            raise Unavailable(f"the {arm} arm cannot run here: {reason}", hint)
    found = collect(where, "*" if folder else "*.md", limit)
    if not found.documents:
        note(f"no text files in {where}; nothing to do")
        return
    run = Demo(found, console(on_stderr=session.json), keep=keep, unsafe=unsafe)
    code = run()
    session.answer(results_document(run.jobs))
    if code:
        raise typer.Exit(code)
