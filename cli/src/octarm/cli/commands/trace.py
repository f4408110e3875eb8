"""`octarm trace`: one task's way through the services, as a tree."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from octarm.cli.command import Session, command
from octarm.cli.commands.tasks import TaskId, task_path
from octarm.cli.events import events_so_far
from octarm.cli.http import Gateway
from octarm.cli.output import note, stdout
from octarm.cli.profiles import data_folder
from octarm.cli.spans import Span, read_spans, span_tree
from octarm.cli.story import steps_of
from octarm.common.telemetry import conventions
from octarm.models.errors import NotFound


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(
        app,
        "trace",
        examples=("octarm trace tsk_01…", "octarm trace tsk_01… --folder /var/lib/octarm/traces"),
    )(trace)


def trace(
    session: Session,
    task_id: TaskId,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--folder",
            help="Exported spans; by default those of the embedded stack.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
) -> None:
    """Draw a task's spans as a tree with durations; where it has none, its events.

    A task is traced when it is sampled: OCTARM_TRACE_SAMPLE=1 traces all. Errors are always.
    """
    path = task_path(task_id)
    with session.gateway() as gateway:
        task = gateway.get(path)
        where = folder or data_folder() / "traces"
        found = read_spans(where, _trace_id(task))
        # Of a task that is not sampled, errors alone are exported: they tell what, not when.
        is_whole = any(span.attributes.get(conventions.SAMPLED) is not False for span in found)
        spans = found if is_whole else [*_steps(gateway, task), *found]
    source = "spans" if is_whole else "events"
    if session.answer({"source": source, "trace_id": _trace_id(task), **_document(spans)}):
        return
    if not is_whole:
        note(f"the task is not sampled, or not in {where}: drawn from its events", "dim")
    stdout().print(span_tree(f"{task_id}  {task['state']}", spans))


def _trace_id(task: dict[str, Any]) -> str:
    return (task.get("traceparent") or "--").split("-")[1]


def _steps(gateway: Gateway, task: dict[str, Any]) -> list[Span]:
    events = events_so_far(gateway, task["task_id"])
    if not events:
        raise NotFound(
            f"task {task['task_id']} has neither spans nor events",
            "Events are kept for seven days; 'octarm tasks get' has what the ledger keeps.",
            "NOT_FOUND",
        )
    return steps_of(task, events)


def _document(spans: list[Span]) -> dict[str, Any]:
    return {"spans": [asdict(span) | {"duration_ms": span.duration_ms} for span in spans]}
