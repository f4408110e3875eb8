"""`octarm dlq …`: list, show, redrive, drop."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Final

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from octarm.cli.command import Session, command, sub_app
from octarm.cli.describe import age
from octarm.cli.http import Gateway
from octarm.cli.output import note, pairs, print_lines, stderr, table
from octarm.cli.text import shorten
from octarm.cli.when import moment
from octarm.models.errors import InvalidRequest, OctarmError

PATH: Final = "/v1/dlq"
PAGE: Final = 500
SHOWN_FAILURES: Final = 20
_SHOWN: Final = (
    *("seq", "reason", "origin", "subject", "stream_seq", "msg_id", "tenant", "task_id"),
    *("attempt", "deliveries", "redrives", "published_at", "buried_at", "size_bytes"),
)
_PAST: Final = {"redrive": "redriven", "drop": "dropped"}


@dataclass(frozen=True, slots=True)
class Filter:
    """Which letters."""

    origin: Annotated[
        str, typer.Option("--origin", help="Only from this consumer, as the list names it.")
    ] = ""
    reason: Annotated[str, typer.Option("--reason", help="Only with this in the reason.")] = ""
    since: Annotated[
        str, typer.Option("--since", metavar="WHEN", help="Only since: 90m, 2h, 7d, or a time.")
    ] = ""
    tenant: Annotated[str, typer.Option("--tenant", help="Only of this tenant.")] = ""

    def fields(self) -> dict[str, str]:
        """What the gateway is asked with."""
        given = {
            "origin": self.origin,
            "reason": self.reason,
            "since": moment(self.since, "--since"),
            "tenant": self.tenant,
        }
        return {name: value for name, value in given.items() if value}


@dataclass(frozen=True, slots=True)
class Bulk(Filter):
    """Which letters, and how to go about it."""

    every: Annotated[bool, typer.Option("--all", help="Every letter.")] = False
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count them.")] = False
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False

    def selection(self, seqs: list[int]) -> dict[str, Any]:
        """What the gateway is told.

        Raises:
            InvalidRequest: nothing is selected, or in two ways.
        """
        fields = self.fields()
        if bool(seqs) + bool(fields) + self.every != 1:
            raise InvalidRequest(
                "say which letters: sequences, or filters, or --all",
                "octarm dlq list shows them; --dry-run counts what a filter finds.",
            )
        return {"seqs": seqs} if seqs else fields or {"all": True}


Seqs = Annotated[list[int] | None, typer.Argument(metavar="SEQ", help="Which letters.")]


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = sub_app("See dead letters, send them back, or throw them away.")
    app.add_typer(group, name="dlq")
    command(
        group,
        "list",
        options=Filter,
        examples=("octarm dlq list", "octarm dlq list --origin memory-remember-task --since 2h"),
    )(list_letters)
    command(group, "show", examples=("octarm dlq show 17",))(show)
    command(
        group,
        "redrive",
        options=Bulk,
        examples=(
            "octarm dlq redrive 17 18",
            'octarm dlq redrive --reason "failed six times" --since 1d --dry-run',
            "octarm dlq redrive --origin orchestrator-accept-task --yes",
        ),
    )(redrive)
    command(
        group,
        "drop",
        options=Bulk,
        examples=("octarm dlq drop 17", "octarm dlq drop --tenant acme --reason quarantined"),
    )(drop)


def list_letters(
    session: Session,
    options: Filter,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, max=100_000, help="Most letters.")
    ] = 50,
) -> None:
    """List dead letters, oldest first."""
    fields = options.fields()
    with session.gateway() as gateway:
        letters, more = _list(gateway, fields, limit)
    if session.answer(letters):
        return
    if not letters:
        note("no dead letters")
        return
    rows = [_row(one) for one in letters]
    table((">seq", ">age", "origin", "tenant", "task", ">tries/redrives", "*reason"), rows)
    if more:
        note(f"there are more: --limit {limit * 2}, or a filter")


def show(
    session: Session,
    seq: Annotated[int, typer.Argument(metavar="SEQ", min=1, help="Its sequence.")],
) -> None:
    """Show one dead letter with its headers and its payload."""
    with session.gateway() as gateway:
        letter = gateway.get(f"{PATH}/{seq}")
    if session.answer(letter):
        return
    back = letter["not_redrivable_because"]
    pairs(
        [(name.replace("_", " "), letter[name]) for name in _SHOWN]
        + [("redrivable", f"no: {back}" if back else "yes")]
        + [(f"header {name}", text) for name, text in letter["headers"].items()]
    )
    payload = letter["payload"]
    print_lines(letter["first_bytes"] if payload is None else payload)


def redrive(session: Session, options: Bulk, seqs: Seqs = None) -> None:
    """Send dead letters back to where they came from; doing it twice is doing it once."""
    _in_bulk(session, "redrive", options.selection(seqs or []), options)


def drop(session: Session, options: Bulk, seqs: Seqs = None) -> None:
    """Throw dead letters away for good."""
    _in_bulk(session, "drop", options.selection(seqs or []), options)


def _in_bulk(session: Session, verb: str, selection: dict[str, Any], how: Bulk) -> None:
    with session.gateway() as gateway:
        if how.dry_run or not how.yes:
            total, until = _count(gateway, verb, selection)
            if how.dry_run:
                if not session.answer({"matched": total}):
                    print_lines(f"{_letters(total)} would be {_PAST[verb]}")
                return
            if total == 0:
                note("no dead letter fits")
                session.answer(_nothing())
                return
            _confirm(session, f"{verb} {_letters(total)}?")
            selection = selection if "seqs" in selection else {**selection, "until": until}
        else:
            total = None
        answer = _run(gateway, verb, selection, total, quiet=session.json)
    failed = answer["failed"]
    if not session.answer(answer):
        gone = f", {answer['gone']} were gone" if answer["gone"] else ""
        print_lines(f"{_letters(answer['done'])} {_PAST[verb]}{gone}")
        for one in failed[:SHOWN_FAILURES]:
            note(f"{one['seq']} stays: {one['reason']}")
    if failed:
        raise OctarmError(
            f"{_letters(len(failed))} could not be {_PAST[verb]}",
            "They are still there; `octarm dlq show` says more of each.",
            "DEAD_LETTERS_STAY",
        )


def _row(one: dict[str, Any]) -> tuple[Any, ...]:
    who = (one["origin"], one["tenant"], one["task_id"])
    tries = f"{one['deliveries']}/{one['redrives']}"
    return one["seq"], age(one["buried_at"]), *who, tries, shorten(one["reason"], 300)


def _count(gateway: Gateway, verb: str, selection: dict[str, Any]) -> tuple[int, int]:
    total, until = 0, 0
    for answer in _rounds(gateway, verb, {**selection, "dry_run": True}):
        total, until = total + answer["matched"], answer["until"]
    return total, until


def _run(
    gateway: Gateway, verb: str, selection: dict[str, Any], total: int | None, *, quiet: bool
) -> dict[str, Any]:
    """Do it in rounds, with a bar on a terminal and a line for each round elsewhere."""
    sum_up = _nothing()
    console = stderr()
    bar = Progress(
        TextColumn(verb), BarColumn(), MofNCompleteColumn(), console=console, transient=True
    )
    bar.disable = quiet or not console.is_terminal
    with bar:
        step = bar.add_task(verb, total=total)
        for answer in _rounds(gateway, verb, selection):
            for name in ("matched", "done", "gone"):
                sum_up[name] += answer[name]
            sum_up["failed"] += answer["failed"]
            bar.advance(step, answer["matched"])
            if answer["more"] and not quiet and not console.is_terminal:
                note(f"{sum_up['matched']}{f' of {total}' if total else ''}")
    return sum_up


def _rounds(gateway: Gateway, verb: str, selection: dict[str, Any]) -> Iterator[dict[str, Any]]:
    seqs = selection.get("seqs")
    if seqs:
        for start in range(0, len(seqs), PAGE):
            yield gateway.post(f"{PATH}/{verb}", {**selection, "seqs": seqs[start : start + PAGE]})
        return
    place: dict[str, int] = {}
    while True:
        answer = gateway.post(f"{PATH}/{verb}", {**selection, **place})
        yield answer
        if not answer["more"]:
            return
        place = {"after": answer["after"], "until": answer["until"]}


def _list(gateway: Gateway, fields: dict[str, str], limit: int) -> tuple[list[Any], bool]:
    letters: list[Any] = []
    place: dict[str, int] = {}
    while True:
        size = min(PAGE, limit - len(letters))
        page = gateway.get(PATH, limit=size, **fields, **place)
        letters += page["letters"]
        if not page["more"] or len(letters) >= limit:
            return letters, page["more"]
        place = {"after": page["after"], "until": page["until"]}


def _confirm(session: Session, question: str) -> None:
    if session.json or not _is_asked():
        raise InvalidRequest(f"{question} nobody is here to answer", "Say --yes, or --dry-run.")
    typer.confirm(question, abort=True, err=True)


def _is_asked() -> bool:
    return sys.stdin.isatty()


def _nothing() -> dict[str, Any]:
    return {"matched": 0, "done": 0, "gone": 0, "failed": []}


def _letters(count: int) -> str:
    return f"{count} dead letter{'' if count == 1 else 's'}"
