"""`octarm ledger verify` and `octarm ledger reconcile`: is all well, and mend what is not."""

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from octarm.cli.command import Session, command, sub_app
from octarm.cli.output import note, print_lines, table
from octarm.cli.profiles import data_folder, embedded_url
from octarm.models.errors import InvalidRequest

PostgresUrl = Annotated[
    str,
    typer.Option(
        "--postgres-url",
        envvar="OCTARM_POSTGRES_URL",
        show_envvar=True,
        help="The ledger; by default that of the running embedded stack.",
    ),
]
NatsUrl = Annotated[
    str,
    typer.Option(
        "--nats-url",
        envvar="OCTARM_NATS_URL",
        show_envvar=True,
        help="NATS; by default that of the running embedded stack.",
    ),
]
DataFolder = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="FOLDER",
        exists=True,
        file_okay=False,
        help="The data folder of the stack, when it was started with --data (or OCTARM_DATA).",
    ),
]
Histories = Annotated[
    list[Path] | None,
    typer.Option("--history", help="What clients saw (JSON lines); may be repeated.", exists=True),
]
Effects = Annotated[
    list[Path] | None,
    typer.Option("--effects", help="What tools did (JSON lines); may be repeated.", exists=True),
]

Live = Annotated[
    bool, typer.Option("--live", help="Work goes on: check what must hold at every instant.")
]
Wait = Annotated[float, typer.Option(min=0, help="Seconds to look again while not clean.")]
Grace = Annotated[float, typer.Option(min=0, help="Seconds that something may be late.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    ledger = sub_app("Check the task ledger, and mend what is left over.")
    app.add_typer(ledger, name="ledger")
    command(
        ledger,
        "verify",
        remote=False,
        examples=(
            "octarm ledger verify",
            "octarm ledger verify --live --json",
            "octarm ledger verify --data ./dev",
            "octarm ledger verify --history load.jsonl --wait 30",
        ),
    )(verify)
    command(
        ledger,
        "reconcile",
        remote=False,
        examples=("octarm ledger reconcile", "octarm ledger reconcile --assume-empty --json"),
    )(reconcile)


def verify(
    session: Session,
    *,
    postgres_url: PostgresUrl = "",
    nats_url: NatsUrl = "",
    data: DataFolder = None,
    history: Histories = None,
    effects: Effects = None,
    live: Live = False,
    wait: Wait = 0.0,
    grace: Grace = 60.0,
) -> None:
    """Check the invariants: ledger, bus, and what clients saw. Changes nothing.

    Without --live all work must be done: every task ended, every queue empty. Ends with exit
    code 1 when something is broken.
    """
    from octarm.verify.check import Sources, verify
    from octarm.verify.invariants import Mode

    sources = Sources(
        postgres_url or _embedded("postgres", data),
        nats_url or _embedded("nats", data),
        history or (),
        effects or (),
    )
    if not sources.postgres_url:
        raise _unknown("Postgres", "--postgres-url or OCTARM_POSTGRES_URL", data)
    mode = Mode.LIVE if live else Mode.QUIESCENT
    try:
        report = asyncio.run(verify(sources, mode=mode, grace_s=grace, wait_s=wait))
    except ValueError as error:
        raise InvalidRequest(str(error), "Write it with octarm.verify's HistoryWriter.") from error
    document = report.as_dict()
    if not session.answer(document):
        _show(document)
    if not report.ok:
        raise typer.Exit(1)


def reconcile(
    session: Session,
    *,
    nats_url: NatsUrl = "",
    data: DataFolder = None,
    assume_empty: Annotated[
        bool, typer.Option("--assume-empty", help="The bus has lost its streams: tell all again.")
    ] = False,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for the end.")] = 600.0,
) -> None:
    """Let the orchestrator look now for what nobody owns, and mend it.

    It does so by itself twice a second. With --assume-empty every queued task's READY message is
    published again; where it was not lost, that changes nothing. That begins after six seconds,
    in which arms report what they have begun. Run `octarm bus provision` first if streams are
    missing.
    """
    url = nats_url or _embedded("nats", data)
    if not url:
        raise _unknown("NATS", "--nats-url or OCTARM_NATS_URL", data)
    mended = asyncio.run(_reconcile(url, assume_empty, timeout))
    if session.answer({"mended": mended}):
        return
    print_lines(
        "\n".join(f"{number}\t{what}" for what, number in mended.items()) or "nothing to mend"
    )


def _embedded(role: str, data: Path | None) -> str:
    return embedded_url(role) if data is None else embedded_url(role, {"OCTARM_DATA": str(data)})


def _unknown(what: str, options: str, data: Path | None) -> InvalidRequest:
    """Say where it was looked for, as a stack may well run on another folder."""
    folder = data or data_folder()
    return InvalidRequest(
        f"no {what} is known: no embedded stack runs on {folder}",
        f"Name the folder of one that does with --data or OCTARM_DATA, or give {options}.",
    )


async def _reconcile(url: str, assume_empty: bool, timeout_s: float) -> dict[str, int]:
    from octarm.clients.orchestrator import OrchestratorClient
    from octarm.common.bus.connection import connected_to

    async with connected_to(url, name="octarm-reconcile") as nc:
        client = OrchestratorClient(nc, timeout_s)
        return (await client.reconcile(assume_empty=assume_empty)).mended


def _show(document: dict[str, Any]) -> None:
    rows = [
        (line["invariant"], line["status"], line["rules"], line["not_checked"] or line["title"])
        for line in document["invariants"]
    ]
    table(("", "status", ">rules", "*"), rows)
    for broken in document["violations"]:
        note(f"{broken['invariant']}: {broken['rule']} ({broken['count']})", "bold red")
        for example in broken["examples"]:
            note(f"    {example}")
        note(f"    hint: {broken['hint']}", "dim")
    for line in document["notes"]:
        note(f"note: {line}", "dim")
    read = ", ".join(f"{number:,} {name}" for name, number in document["counts"].items())
    verdict = "clean" if document["ok"] else f"{len(document['violations'])} rules are broken"
    note(f"{verdict} ({document['mode']}; read {read})", "green" if document["ok"] else "bold red")
