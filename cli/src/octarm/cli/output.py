"""What the commands write: results on stdout, everything else on stderr."""

import sys
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from octarm.cli.text import clean, to_json
from octarm.models.errors import OctarmError

PADDING = 2
LEAST_ROOM = 8
STATE_STYLES = {
    "completed": "green",
    "online": "green",
    "failed": "red",
    "offline": "red",
    "timed_out": "red",
    "rejected": "red",
    "cancelled": "yellow",
    "degraded": "yellow",
    "draining": "yellow",
    "running": "cyan",
    "dispatched": "cyan",
    "validating": "cyan",
}


def stdout() -> Console:
    """A console on the present stdout; tables may be cut to its width."""
    return Console(file=sys.stdout, highlight=False, soft_wrap=False)


def stderr() -> Console:
    """A console on the present stderr, for progress and errors."""
    return Console(file=sys.stderr, highlight=False)


def print_json(value: Any) -> None:
    """Write one JSON document on one line."""
    sys.stdout.write(to_json(value) + "\n")
    sys.stdout.flush()


def print_lines(text: str) -> None:
    """Write cleaned text; its line breaks stay."""
    sys.stdout.write(clean(text, lines=True).rstrip("\n") + "\n")
    sys.stdout.flush()


def note(message: str, style: str = "") -> None:
    """Say something that is not the result."""
    stderr().print(Text(clean(message), style=style), soft_wrap=True)


def state_text(state: str) -> Text:
    """A state in its colour."""
    return Text(clean(state), style=STATE_STYLES.get(state, ""))


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table; columns marked `>` in front are right-aligned, the one marked `*` gives way.

    Elsewhere than on a terminal, columns are separated by tabs and nothing is cut.
    """
    console = stdout()
    names = [name.lstrip(">*") for name in columns]
    if not console.is_terminal:
        for row in [names, *rows]:
            print_lines("\t".join(clean(_plain(cell)) for cell in row))
        return
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [
        0 if column.startswith("*") else max(cell_len(name), *(row[i].cell_len for row in cells))
        for i, (column, name) in enumerate(zip(columns, names, strict=True))
    ]
    # Ids stay whole: on a terminal that is too narrow, lines go on in the next one.
    room = max(LEAST_ROOM, console.width - sum(widths) - PADDING * len(widths))
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for column, name, width in zip(columns, names, widths, strict=True):
        justify: JustifyMethod = "right" if column.startswith(">") else "left"
        widest = max((row[names.index(name)].cell_len for row in cells), default=0)
        size = width or max(cell_len(name), min(room, widest))
        grid.add_column(name, justify=justify, no_wrap=True, width=size, overflow="ellipsis")
    for row in cells:
        grid.add_row(*row)
    whole = sum(widths) + room + PADDING * len(widths)
    Console(file=sys.stdout, highlight=False, width=max(console.width, whole)).print(grid)


def _cell(value: Any) -> Text:
    return value if isinstance(value, Text) else Text(clean(_plain(value)))


def pairs(rows: Sequence[tuple[str, Any]]) -> None:
    """Print `name  value` lines, empty values left out."""
    shown = [(name, value) for name, value in rows if value not in (None, "", [], {})]
    width = max((len(name) for name, _ in shown), default=0)
    console = stdout()
    for name, value in shown:
        text = value if isinstance(value, Text) else Text(clean(_plain(value), lines=True))
        console.print(Text(f"{name:<{width}}  ", style="dim") + text, soft_wrap=True)


def show_error(error: OctarmError, *, as_json: bool = False) -> None:
    """Say on stderr what went wrong and what to do about it."""
    if as_json:
        sys.stderr.write(to_json(error.problem().model_dump(exclude_none=True)) + "\n")
        return
    console = stderr()
    wait = f" (retry after {error.retry_after_s} s)" if error.retry_after_s else ""
    line = Text("error: ", style="bold red") + Text(f"{clean(error.message)} [{error.code}]{wait}")
    console.print(line, soft_wrap=True)
    for field in error.errors or []:
        console.print(Text(f"  {clean(field.field)}: {clean(field.message)}"), soft_wrap=True)
    console.print(Text(f"hint: {clean(error.recovery_hint)}", style="dim"), soft_wrap=True)


def show_waiting(error: OctarmError, pause_s: float, *, as_json: bool = False) -> None:
    """Say on stderr that a request was refused for now, and when it is sent again."""
    if as_json:
        said = {"event": "waiting", "retry_after_seconds": round(pause_s, 1)}
        sys.stderr.write(to_json(said | {"code": error.code, "detail": error.message}) + "\n")
        sys.stderr.flush()
        return
    note(f"refused for now: {error.message} [{error.code}]; again in {pause_s:.0f} s", "yellow")


def _plain(value: Any) -> str:
    if value is None:
        return ""
    return value.plain if isinstance(value, Text) else str(value)
