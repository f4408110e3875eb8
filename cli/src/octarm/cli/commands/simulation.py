"""`octarm policy simulate`: policies side by side, in virtual time."""

import importlib.util
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from octarm.cli.command import Session
from octarm.cli.output import note, print_lines, stderr
from octarm.cli.sources import KINDS, PATH, read_source, read_text
from octarm.cli.when import moment
from octarm.models.errors import InvalidRequest

WITHIN_S: Final = 150.0
SAY_EVERY_S: Final = 10.0
LIVE: Final = "live"

Policies = Annotated[
    list[str],
    typer.Argument(
        metavar="REF…", help="Versions, names of built-in policies, or a .star or .yaml file."
    ),
]
Since = Annotated[
    str,
    typer.Option("--since", metavar="WHEN", help="Tasks accepted since: 90m, 2h, 7d, or a time."),
]
Until = Annotated[
    str, typer.Option("--until", metavar="WHEN", help="And until then; by default until now.")
]
LoadFile = Annotated[
    Path | None,
    typer.Option("--load", metavar="FILE", help="A load (TOML) in place of the record."),
]
Against = Annotated[
    str, typer.Option("--against", metavar="REF", help="What they are compared with; '' for none.")
]
Plot = Annotated[
    Path | None, typer.Option("--plot", metavar="FILE", help="Draw a picture (PNG or SVG).")
]


def simulate(
    session: Session,
    *,
    policies: Policies,
    since: Since = "",
    until: Until = "",
    load: LoadFile = None,
    against: Against = LIVE,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the load's chances.")] = 1,
    plot: Plot = None,
) -> None:
    """Show what policies would have made of recorded tasks, or make of a load.

    Without --load and --since the tasks of the last hour are taken. With both, the tasks are the
    recorded ones, and arms and rules are the load's.
    """
    if plot is not None and importlib.util.find_spec("matplotlib") is None:
        raise InvalidRequest(
            "--plot needs matplotlib",
            "Install it: uv sync --group bench, or pip install matplotlib.",
        )
    body = _question(policies, against) | {"seed": seed}
    if load is not None:
        body["load"] = read_text(load)
    for name, value in (("since", since), ("until", until)):
        if value:
            body[name] = moment(value, f"--{name}")
    with session.gateway() as gateway, _progress(quiet=session.json):
        found = gateway.post_once(f"{PATH}/simulate", body, timeout_s=WITHIN_S)
    if not session.answer(found):
        _show(found)
    if plot is not None:
        _draw(found, plot)
        note(f"drawn: {plot}")


def _question(policies: list[str], against: str) -> dict[str, Any]:
    refs = [against] if against else []
    draft: dict[str, str] | None = None
    for ref in policies:
        if Path(ref).suffix.lower() not in KINDS:
            # Built-in policies are known by names of Python; refs are names with hyphens.
            refs.append(ref.replace("_", "-"))
            continue
        if draft is not None:
            raise InvalidRequest("two files", "Save one of them first: octarm policy save FILE")
        source, kind = read_source(Path(ref))
        draft = {"kind": kind, "source": source}
    return {"refs": list(dict.fromkeys(refs)), "draft": draft}


def _outcomes(found: dict[str, Any]) -> Any:
    from octarm.policies.simulator.outcome import Outcome

    return msgspec.convert(found["outcomes"], list[Outcome])


def _show(found: dict[str, Any]) -> None:
    from octarm.policies.simulator.report import tables

    print_lines(tables(_outcomes(found)))
    if found["tasks"]:
        more = "; more was recorded: take a shorter time" if found["cut"] else ""
        note(f"{found['tasks']:,} recorded tasks{more}", "dim")


def _draw(found: dict[str, Any], path: Path) -> None:
    from octarm.policies.simulator.plot import draw

    try:
        draw(_outcomes(found), path)
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"{path} cannot be drawn: {error}") from None


@contextmanager
def _progress(*, quiet: bool) -> Iterator[None]:
    """Say on stderr that work goes on: in place on a terminal, else a line every ten seconds."""
    console, done = stderr(), threading.Event()
    if quiet:
        yield
        return
    if console.is_terminal:
        with console.status("simulating …"):
            yield
        return

    began = time.monotonic()

    def say() -> None:
        while not done.wait(SAY_EVERY_S):
            sys.stderr.write(f"simulating for {time.monotonic() - began:.0f} s\n")

    thread = threading.Thread(target=say, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
