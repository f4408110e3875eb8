"""What a person sees of a stack: a live table on a terminal, plain lines elsewhere."""

import os
import sys
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from octarm.cli.stack.keeper import Keeper, State

_RECENT_LINES = 5
_REFRESH_PER_S = 2.0
_STYLES = {
    State.WAITING: "dim",
    State.STARTING: "yellow",
    State.READY: "green",
    State.RESTARTING: "red",
    State.STOPPING: "yellow",
    State.STOPPED: "dim",
}


class View(Protocol):
    """Shows what happens to a stack."""

    def say(self, line: str) -> None:
        """Show something that just happened."""

    def announce(self, line: str) -> None:
        """Show a line that is to stay on the screen."""

    def __enter__(self) -> Self:
        """Begin to show."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it; the terminal is as before."""


class PlainView:
    """One line for each thing that happens."""

    def say(self, line: str) -> None:
        """Print it at once; when nobody reads any more (`octarm up | head`), be silent."""
        try:
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
        except BrokenPipeError:
            silence = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silence, sys.stdout.fileno())
            os.close(silence)

    announce = say

    def __enter__(self) -> Self:
        """Nothing to begin."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing to end."""


class LiveView:
    """A table of every process that is drawn again twice a second, with the last few lines."""

    def __init__(self, keepers: Callable[[], list[Keeper]], console: Console) -> None:
        self._keepers = keepers
        self._recent: deque[str] = deque(maxlen=_RECENT_LINES)
        self._console = console
        self._live = Live(
            console=console,
            get_renderable=self.render,
            refresh_per_second=_REFRESH_PER_S,
            transient=True,
        )

    def say(self, line: str) -> None:
        """Show it under the table until newer lines push it out."""
        self._recent.append(line)
        self._live.refresh()

    def announce(self, line: str) -> None:
        """Print it above the table."""
        self._console.print(Text(line, style="bold green"), soft_wrap=True)

    def render(self) -> Group:
        """The table and the last few lines."""
        table = Table(box=None, header_style="dim", pad_edge=False)
        for column in ("role", "state", "process", "up for", "restarts"):
            table.add_column(column, justify="left" if column in {"role", "state"} else "right")
        for keeper in self._keepers():
            runs = keeper.state in {State.READY, State.STOPPING}
            table.add_row(
                keeper.name,
                Text(keeper.state, style=_STYLES[keeper.state]),
                str(keeper.server.pid) if runs else "",
                _duration(keeper.healthy_for_s) if keeper.state is State.READY else "",
                str(keeper.restarts or ""),
            )
        return Group(table, *(Text(line, style="dim") for line in self._recent))

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the table."""
        self._live.stop()


def view_for(keepers: Callable[[], list[Keeper]]) -> View:
    """The view that suits our standard output."""
    console = Console()
    return LiveView(keepers, console) if console.is_terminal else PlainView()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
