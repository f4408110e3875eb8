"""`octarm shed …`: refuse fresh tasks on purpose, and see what is refused."""

import re
from typing import Annotated, Any, Final

import typer

from octarm.cli.command import Session, command, sub_app
from octarm.cli.describe import age
from octarm.cli.http import Gateway
from octarm.cli.output import note, print_lines, table
from octarm.models.errors import InvalidRequest, OctarmError
from octarm.models.shedding import MAX_SECONDS, ShedMode

PATH: Final = "/v1/shedding"
_SPAN: Final = re.compile(r"(\d{1,6})([smhd])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

Mode = Annotated[
    ShedMode,
    typer.Argument(help="open; shed-batch: no fresh batch tasks; shed-all-new: no fresh tasks."),
]
ForTenant = Annotated[
    str, typer.Option("--tenant", metavar="NAME", help="Of this tenant; else of the whole fleet.")
]
Reason = Annotated[str, typer.Option("--reason", help="Everybody who is refused reads it.")]
Span = Annotated[
    str, typer.Option("--for", metavar="TIME", help="Opens by itself after it: 90s, 30m, 2h, 1d.")
]


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = sub_app("Shed load: refuse fresh tasks of one tenant or of all, and see what is shed.")
    app.add_typer(group, name="shed")
    command(group, "show", examples=("octarm shed show", "octarm shed show --json"))(show)
    command(
        group,
        "set",
        examples=(
            'octarm shed set shed-batch --for 30m --reason "the provider is slow"',
            "octarm shed set shed-all-new --tenant acme",
            "octarm shed set open",
        ),
    )(put)


def show(session: Session) -> None:
    """Show what is shed now; operators see who has put the switch how before."""
    with session.gateway() as gateway:
        found = gateway.get(PATH)
    if session.answer(found):
        return
    print_lines("\n".join(standing(found)) or "open: nothing is shed")
    if found["past"]:
        rows = [
            (age(it["at"]), it["tenant"] or "all", it["mode"], it["by"], it["reason"])
            for it in found["past"]
        ]
        table((">put", "tenant", "mode", "by", "*reason"), rows)


def put(
    session: Session, mode: Mode, *, tenant: ForTenant = "", reason: Reason = "", span: Span = ""
) -> None:
    """Put the switch; orchestrators follow within two seconds, and after a restart too.

    What was accepted goes on, and children of accepted tasks are accepted. Whoever is refused
    gets 429 LOAD_SHED, the reason, and a time to come again. Only operators may put it.
    """
    wanted = {"mode": mode.value, "tenant": tenant or None, "reason": reason}
    with session.gateway() as gateway:
        found = gateway.put(PATH, {**wanted, "seconds": _seconds(span)})
    if not session.answer(found):
        print_lines("\n".join(standing(found)) or "open: nothing is shed")


def standing(found: dict[str, Any]) -> list[str]:
    """Say in a line each what is shed now."""
    return [_line(it) for it in found["now"]]


def shed_now(gateway: Gateway) -> list[str]:
    """Ask for the same; nothing when the gateway does not know it."""
    try:
        return standing(gateway.get(PATH))
    except OctarmError:
        return []


def warn_of_shedding(lines: list[str]) -> None:
    """Say it beside what was asked for."""
    for line in lines:
        note(line, "yellow")


def _line(it: dict[str, Any]) -> str:
    until = f", until {it['until']}" if it["until"] else ""
    why = f": {it['reason']}" if it["reason"] else ""
    whose = f"tenant {it['tenant']}" if it["tenant"] else "all tenants"
    return f"{it['mode']} for {whose}, put by {it['by']} {age(it['at'])} ago{until}{why}"


def _seconds(span: str) -> int | None:
    if not span:
        return None
    found = _SPAN.fullmatch(span)
    seconds = int(found[1]) * _SECONDS[found[2]] if found else 0
    if not 0 < seconds <= MAX_SECONDS:
        raise InvalidRequest(f"--for {span!r} is no time", "Write 90s, 30m, 2h or 1d; 7d at most.")
    return seconds
