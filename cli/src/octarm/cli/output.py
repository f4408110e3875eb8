"""What the commands write: results on stdout, everything else on stderr."""

import sys
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from octarm.cli.text import clean, to_json
from octarm.models.errors import OctarmError

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


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table; columns marked `>` at the front are right-aligned, `*` take the room left.

    Elsewhere than on a terminal, columns are separated by tabs and nothing is cut.
    """
    console = stdout()
    names = [name.lstrip(">*") for name in columns]
    if not console.is_terminal:
        for row in [names, *rows]:
            print_lines("\t".join(clean(_plain(cell)) for cell in row))
        return
    grid = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for column, name in zip(columns, names, strict=True):
        grid.add_column(
            name,
            justify="right" if column.startswith(">") else "left",
            overflow="ellipsis" if column.startswith("*") else "fold",
            no_wrap=column.startswith("*"),
            ratio=1 if column.startswith("*") else None,
        )
    for row in rows:
        grid.add_row(
            *(cell if isinstance(cell, Text) else Text(clean(_plain(cell))) for cell in row)
        )
    console.print(grid)


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


def _plain(value: Any) -> str:
    if value is None:
        return ""
    return value.plain if isinstance(value, Text) else str(value)
