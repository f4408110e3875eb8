"""`octarm trace`: one task's way through the services, as a tree."""

from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from octarm.cli.command import Session, command
from octarm.cli.commands.tasks import TaskId, task_path
from octarm.cli.events import StreamEvent, task_events
from octarm.cli.http import Gateway
from octarm.cli.output import note, stdout
from octarm.cli.profiles import data_folder
from octarm.cli.spans import Span, read_spans, span_tree


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
        typer.Option("--folder", help="Exported spans; by default those of the embedded stack."),
    ] = None,
) -> None:
    """Draw a task's spans as a tree with durations; without spans, its events.

    A task is traced when it is sampled: OCTARM_TRACE_SAMPLE=1 traces all.
    """
    path = task_path(task_id)
    with session.gateway() as gateway:
        task = gateway.get(path)
        trace_id = (task.get("traceparent") or "--").split("-")[1]
        where = folder or data_folder() / "traces"
        spans = read_spans(where, trace_id) if trace_id else []
        source = "spans"
        if not spans:
            source, spans = "events", _from_events(gateway, task)
    if session.answer({"source": source, "spans": [asdict(span) for span in spans]}):
        return
    if source == "events":
        note(f"no spans of this task in {where}; drawn from its events", "dim")
    stdout().print(span_tree(f"{task_id}  {task['state']}", spans))


def _from_events(gateway: Gateway, task: dict[str, Any]) -> list[Span]:
    """One span from each event to the next; of a task that runs, up to its latest event."""
    events: list[StreamEvent] = []
    if task.get("terminal_at"):
        events = [e for e in task_events(gateway, task["task_id"]) if e.kind != "chunk"]
    times = [(_ns(event.data.get("occurred_at")), event) for event in events]
    ends = [at for at, _ in times[1:]] + [at for at, _ in times[-1:]]
    return [
        Span("", str(i), "", event.kind, "", at, max(at, end), attributes=_attributes(event))
        for i, ((at, event), end) in enumerate(zip(times, ends, strict=True))
    ]


def _attributes(event: StreamEvent) -> dict[str, Any]:
    return {key: event.data[key] for key in ("attempt", "arm_id") if event.data.get(key)}


def _ns(when: Any) -> int:
    try:
        return int(datetime.fromisoformat(str(when)).timestamp() * 1e9)
    except ValueError:
        return 0
