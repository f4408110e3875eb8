"""`octarm up` and `octarm doctor` as functions that typer understands."""

import asyncio
import json
import resource
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from octarm.cli.profiles import data_folder, embedded_url
from octarm.cli.stack.arms import BUILT_IN, built_in_arm, why_not
from octarm.cli.stack.doctor import Check, Verdict, examine
from octarm.cli.stack.errors import StackError
from octarm.cli.stack.services import OCTARM, Role, System, replicated
from octarm.cli.stack.signals import run_until_signalled
from octarm.cli.stack.supervisor import Options, Stack, running
from octarm.cli.stack.view import View, view_for
from octarm.common.secret_files import secret
from octarm.models.errors import OctarmError


def up(
    *,
    data: Annotated[
        Path | None,
        typer.Option(
            envvar="OCTARM_DATA", help="Where everything is kept; by default ~/.local/share/octarm."
        ),
    ] = None,
    http_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port of the gateway; else a free one.")
    ] = None,
    services_only: Annotated[
        bool,
        typer.Option(
            "--services-only", help="Use the servers named by OCTARM_{NATS,REDIS,POSTGRES}_URL."
        ),
    ] = False,
    no_arms: Annotated[bool, typer.Option("--no-arms", help="Start no built-in arm.")] = False,
    arms: Annotated[str, typer.Option(help="Built-in arms to start.")] = ",".join(BUILT_IN),
    replicas: Annotated[
        list[str] | None,
        typer.Option(metavar="ROLE=N,…", help="Start roles N times; may be given again."),
    ] = None,
) -> None:
    """Run everything on this machine: servers, services and arms. Ctrl-C drains it."""
    names = [] if no_arms else [name for name in arms.split(",") if name]
    counts = counts_of(replicas or [])
    options = Options(
        data=(data or data_folder()).expanduser().absolute(),
        http_port=http_port,
        own_servers=not services_only,
        restart_unhealthy=True,
        arms=replicated(tuple(_arms_that_can_run(names)), counts),
        system=System(OCTARM.preparations, replicated(OCTARM.services, counts)),
    )
    raise typer.Exit(run_in_foreground(options))


def doctor(
    ctx: typer.Context,
    *,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    cluster: Annotated[
        bool, typer.Option("--cluster", help="Look at a cluster that runs, not at this machine.")
    ] = False,
    shards: Annotated[
        int, typer.Option(min=1, max=64, envvar="OCTARM_SHARDS", help="Of the cluster.")
    ] = 1,
    accounts: Annotated[
        Path | None,
        typer.Option(
            "--accounts",
            metavar="FOLDER",
            help="Try the rights of these too: files called as accounts of NATS, with their URLs.",
        ),
    ] = None,
) -> None:
    """Say what this machine lacks to run Octarm, and how to mend it.

    With --cluster: which versions run and for which migrations, clocks, rights, streams and
    consumers as they are against how they are provisioned, who lags, what load is shed, and
    what accounts of NATS may and may not.
    OCTARM_POSTGRES_URL and OCTARM_NATS_URL say where; without them it is the embedded stack
    that runs.
    """
    checks = asyncio.run(_examine_cluster(shards, accounts) if cluster else examine())
    if json_ or getattr(ctx.find_root().obj, "json", False):
        sys.stdout.write(json.dumps([check.as_dict() for check in checks], indent=2) + "\n")
    else:
        _print_checks(checks)
    if any(check.verdict is Verdict.MISSING for check in checks):
        raise typer.Exit(1)


async def _examine_cluster(shards: int, accounts: Path | None) -> list[Check]:
    # Loaded for this only: it brings clients of Postgres and NATS.
    from octarm.cli.cluster import examine_cluster
    from octarm.cli.rights import accounts_in

    postgres, nats = (
        secret(f"OCTARM_{role.upper()}_URL") or embedded_url(role) for role in ("postgres", "nats")
    )
    if not postgres and not nats:
        hint = "set OCTARM_POSTGRES_URL and OCTARM_NATS_URL, or start one with octarm up"
        return [Check("cluster", Verdict.MISSING, "none is known", hint)]
    try:
        others = accounts_in(accounts) if accounts else {}
    except OctarmError as error:
        return [Check("accounts", Verdict.MISSING, error.message, error.recovery_hint)]
    return await examine_cluster(
        postgres_url=postgres or "", nats_url=nats or "", shards=shards, accounts=others
    )


def run_in_foreground(options: Options) -> int:
    """Run a stack until a signal ends it, and give the exit code.

    A stack that cannot start says why in one line on stderr: exit code 1.
    """
    try:
        return asyncio.run(_foreground(options))
    except StackError as error:
        sys.stderr.write(f"error: {error}\nhint: {error.recovery_hint}\n")
        return 1


async def _foreground(options: Options) -> int:
    _raise_open_files_limit()
    stack: Stack

    def say(line: str) -> None:
        view.say(line)

    stack = Stack(options, changed=say)
    view = view_for(lambda: stack.keepers)
    with view:
        exit_code = await run_until_signalled(stack, _serve(stack, options, view))
        view.announce("stopped" if exit_code == 0 else "stopped by force")
        return exit_code


async def _serve(stack: Stack, options: Options, view: View) -> None:
    async with running(stack, options.data):
        view.announce(f"ready {stack.urls.gateway} (Ctrl-C stops; data in {options.data})")
        await stack.watch()


def _raise_open_files_limit() -> None:
    """Every connection of a client is an open file; the usual soft limit is 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # macOS refuses what the kernel cannot give
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _arms_that_can_run(names: list[str]) -> list[Role]:
    roles = []
    for name in names:
        try:
            role = built_in_arm(name)
        except StackError as error:
            raise typer.BadParameter(f"{error}; {error.recovery_hint}") from error
        reason = why_not(name)
        if reason is None:
            roles.append(role)
        else:
            sys.stderr.write(f"arm {name} is not started: {reason}\n")
    return roles


def counts_of(replicas: list[str]) -> dict[str, int]:
    """Read `--replicas`.

    Raises:
        BadParameter: it names no role, or no number.
    """
    counts = {}
    for text in (part for given in replicas for part in given.split(",") if part):
        role, _, count = text.partition("=")
        if not count.isdigit() or not 1 <= int(count) <= 100:
            raise typer.BadParameter(f"{text!r} is not ROLE=N with N from 1 to 100")
        counts[role] = int(count)
    known = {role.name for role in OCTARM.services} | set(BUILT_IN)
    unknown = sorted(set(counts) - known)
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is not one of {', '.join(sorted(known))}")
    return counts


def _print_checks(checks: list[Check]) -> None:
    console = Console()
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    marks = {
        Verdict.OK: Text("ok", style="green"),
        Verdict.WARNING: Text("warning", style="yellow"),
        Verdict.MISSING: Text("missing", style="red"),
    }
    for check in checks:
        mend = "" if check.verdict is Verdict.OK else f"\n→ {check.mend}"
        table.add_row(marks[check.verdict], check.name, Text(f"{check.found}{mend}"))
    console.print(table)
