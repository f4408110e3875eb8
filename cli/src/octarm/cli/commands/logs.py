"""`octarm logs`: what all processes of the embedded stack wrote, by time."""

import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.text import Text

from octarm.cli.command import Session, command
from octarm.cli.logs import LEVELS, Line, LogFile, Wanted, log_files, merged
from octarm.cli.output import note, print_json, stdout
from octarm.cli.profiles import data_folder
from octarm.cli.text import clean
from octarm.models.errors import InvalidRequest, NotFound

EVERY_S: Final = 0.3
STYLES: Final = {"debug": "dim", "warning": "yellow", "error": "red", "critical": "bold red"}

Service = Annotated[
    list[str] | None,
    typer.Option("--service", "-s", metavar="NAME", help="Only its lines; may be repeated."),
]
Level = Annotated[str, typer.Option("--level", help=f"At least: {', '.join(LEVELS)}.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(
        app,
        "logs",
        remote=False,
        examples=(
            "octarm logs --follow",
            "octarm logs --level warning --last 20",
            "octarm logs --service scheduler --service orchestrator --json",
            "octarm logs --task tsk_01…",
        ),
    )(logs)


def logs(
    session: Session,
    *,
    service: Service = None,
    task: Annotated[str, typer.Option("--task", metavar="ID", help="Only about this task.")] = "",
    level: Level = "debug",
    last: Annotated[int, typer.Option("--last", "-n", min=0, help="The last N; 0: all.")] = 0,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes.")] = False,
    previous: Annotated[bool, typer.Option("--previous", help="Of the run before.")] = False,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="FOLDER", help="The stack's data folder (or OCTARM_DATA)."),
    ] = None,
) -> None:
    """Show the logs of the embedded stack, those of all processes in one, by time."""
    if level not in LEVELS:
        raise InvalidRequest(f"{level!r} is no level", f"Take one of {', '.join(LEVELS)}.")
    files = _files(data or data_folder(), previous)
    wanted = Wanted(frozenset(service or ()), level, task)
    shown = _show(session, _last(merged(files, wanted), last))
    if not shown and not follow:
        note(_nothing(task), style="dim")
    while follow and not previous:
        time.sleep(EVERY_S)
        _show(session, merged(files, wanted))


def _files(folder: Path, previous: bool) -> list[LogFile]:
    files = log_files(folder / "logs", previous=previous)
    if not files:
        raise NotFound(
            f"there are no logs in {folder / 'logs'}",
            "Start a stack with 'octarm up', or name its folder with --data or OCTARM_DATA.",
            "NOT_FOUND",
        )
    return files


def _last(lines: Iterator[Line], number: int) -> Iterable[Line]:
    return deque(lines, maxlen=number) if number else lines


def _nothing(task: str) -> str:
    if not task:
        return "Nothing was said of that kind."
    return f"Nothing was said about {task}: what goes well is silent. See 'octarm trace {task}'."


def _show(session: Session, lines: Iterable[Line]) -> int:
    """Write lines; gives how many there were."""
    console, number = stdout(), 0
    for line in lines:
        number += 1
        if session.json:
            print_json(line.as_dict())
        else:
            console.print(_text(line), soft_wrap=True)
    sys.stdout.flush()
    return number


def _text(line: Line) -> Text:
    fields = dict(line.fields)
    traceback = fields.pop("exception", "")
    clock = line.at.astimezone().strftime("%H:%M:%S.%f")[:-3]
    text = Text(f"{clock} ", style="dim")
    text.append(f"{line.level:<8} ", style=STYLES.get(line.level, ""))
    text.append(f"{clean(line.service):<14} ", style="cyan")
    text.append(clean(line.event), style="bold")
    for name, value in fields.items():
        text.append(f"  {clean(name)}=", style="dim")
        text.append(clean(_shown(value)))
    if traceback:
        text.append("\n" + clean(str(traceback), lines=True), style="dim")
    return text


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)
