"""Follow one task to its end and show it: live on a terminal, as lines elsewhere, as JSON."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from octarm.cli.command import Session
from octarm.cli.describe import event_line, output_text, result_line
from octarm.cli.events import StreamEvent, task_events
from octarm.cli.http import Gateway
from octarm.cli.output import note, print_json, print_lines, stderr
from octarm.cli.text import clean, shorten
from octarm.models.errors import Problem, TaskFailed, from_problem

CHUNK_LINES = 8
CHUNK_CHARS = 4000


class Show(Protocol):
    """Takes a task's events as they come."""

    def __call__(self, event: StreamEvent) -> None:
        """Show one event."""
        ...


def follow(session: Session, gateway: Gateway, task_id: str, *, chunks: bool = True) -> StreamEvent:
    """Show a task's events until it has ended; return the terminal one.

    Raises:
        OctarmError: the stream cannot be read.
    """
    last = StreamEvent("")
    events = task_events(gateway, task_id)
    with closing(events), _display(session, task_id, chunks) as show:
        for last in events:
            if chunks or last.kind != "chunk":
                show(last)
    return last


def finish(session: Session, gateway: Gateway, end: StreamEvent, task_id: str) -> None:
    """Print the result of a task that has ended.

    Raises:
        TaskFailed: it did not complete.
    """
    result = end.data.get("result")
    if not isinstance(result, dict) and end.kind.endswith("completed"):
        result = result_of(gateway.get(f"/v1/tasks/{task_id}/result"))
    if session.json:
        print_json({"event": "result", "data": result})
    elif isinstance(result, dict):
        print_result(result)
    if not end.kind.endswith("completed"):
        raise ended_badly(end)


def print_result(result: dict[str, Any]) -> None:
    """Print a result for people: the output on stdout, what it wrote to stderr there."""
    output = result.get("output")
    if output is not None:
        print_lines(output_text(output))
    if isinstance(output, dict) and (errors := output.get("stderr")):
        for line in str(errors).splitlines():
            note(line)
    note(result_line(result), "dim")


def result_of(answer: Any) -> dict[str, Any] | None:
    """The ExecutionResult in an Outcome, if there is one."""
    if isinstance(answer, dict) and isinstance(answer.get("result"), dict):
        return dict(answer["result"])
    return None


def ended_badly(end: StreamEvent) -> Exception:
    """The error that a terminal event other than completed stands for."""
    error = end.data.get("error")
    if isinstance(error, dict):
        found = from_problem(Problem.model_validate(error))
        return TaskFailed(found.message, found.recovery_hint, found.code)
    verb = end.kind.removeprefix("task.")
    return TaskFailed(event_line(end), code="CANCELLED" if verb == "cancelled" else "")


@contextmanager
def _display(session: Session, task_id: str, chunks: bool) -> Iterator[Show]:
    if session.json:
        yield lambda event: print_json({"event": event.kind, "data": event.data})
    elif stderr().is_terminal:
        live = _LiveView(task_id)
        with Live(live.picture(), console=stderr(), transient=True, refresh_per_second=8) as screen:
            yield live.onto(screen.update)
    else:
        yield _plain_line


def _plain_line(event: StreamEvent) -> None:
    if event.kind != "chunk":
        when = str(event.data.get("occurred_at", ""))
        clock = _clock(when)
        note(f"{clock} {event_line(event)}".strip())


def _clock(when: str) -> str:
    try:
        return datetime.fromisoformat(when).astimezone().strftime("%H:%M:%S")
    except ValueError:
        return ""


@dataclass(slots=True)
class _LiveView:
    """A spinner with the latest event, a bar once progress is known, the newest output."""

    task_id: str
    text: str = ""
    attempt: int = 0
    bar: Progress = field(
        default_factory=lambda: Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
        )
    )

    def __post_init__(self) -> None:
        self.bar.add_task(self.task_id, total=None)

    def onto(self, update: Callable[[Group], None]) -> Show:
        """Return what takes an event and draws the picture anew."""

        def show(event: StreamEvent) -> None:
            self.take(event)
            update(self.picture())

        return show

    def take(self, event: StreamEvent) -> None:
        """Take in one event."""
        if event.data.get("attempt", 0) != self.attempt:
            self.attempt, self.text = event.data.get("attempt", 0), ""
        only = self.bar.task_ids[0]
        if event.kind == "chunk":
            self.text = (self.text + str(event.data.get("text", "")))[-CHUNK_CHARS:]
            return
        if event.kind.endswith("progress"):
            self.bar.update(only, total=1.0, completed=float(event.data.get("fraction") or 0))
        self.bar.update(only, description=shorten(event_line(event), 60))

    def picture(self) -> Group:
        """What the terminal shows now."""
        lines = clean(self.text, lines=True).splitlines()[-CHUNK_LINES:]
        return Group(self.bar, Text("\n".join(lines), style="dim"))
