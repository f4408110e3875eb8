"""`octarm backup` and `octarm restore`: ledger, memory and policies into a folder and back."""

import asyncio
import shutil
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from octarm.cli.backup import manifest
from octarm.cli.command import Session, command
from octarm.cli.commands.admin import migrate_all, provision_bus
from octarm.cli.commands.ledger import NatsUrl, PostgresUrl
from octarm.cli.output import note, print_lines
from octarm.cli.profiles import data_folder, embedded_url
from octarm.common.secret_files import secret
from octarm.models.errors import Conflict, InvalidRequest

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the backup is.")]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data", metavar="FOLDER", help="The embedded stack's data folder (or OCTARM_DATA)."
    ),
]


class Where(NamedTuple):
    """The two places that hold what cannot be made again."""

    postgres: str
    nats: str


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(
        app,
        "backup",
        remote=False,
        examples=(
            "octarm backup ./backups/2026-11-22",
            "OCTARM_POSTGRES_URL=postgresql://… OCTARM_NATS_URL=nats://… octarm backup FOLDER",
        ),
    )(backup)
    command(
        app,
        "restore",
        remote=False,
        examples=(
            "octarm restore ./backups/2026-11-22 --data ./new",
            "OCTARM_POSTGRES_URL=postgresql://… OCTARM_NATS_URL=nats://… octarm restore FOLDER",
        ),
    )(restore)


def backup(
    session: Session,
    folder: Folder,
    *,
    postgres_url: PostgresUrl = "",
    nats_url: NatsUrl = "",
    data: Data = None,
) -> None:
    """Write ledger, memory and policies into a new folder; work may go on meanwhile.

    Ledger and memory are of one instant. Goals, results and memories stand in it: keep it as safe
    as the database.
    """
    where = _given(postgres_url, nats_url)
    if not where.postgres:
        environ = {"OCTARM_DATA": str(data or data_folder())}
        where = Where(embedded_url("postgres", environ), embedded_url("nats", environ))
    if not where.postgres:
        raise InvalidRequest(
            f"no Postgres is known: no embedded stack runs on {data or data_folder()}",
            "Name its folder with --data, or give OCTARM_POSTGRES_URL and OCTARM_NATS_URL.",
        )
    if folder.exists():
        raise Conflict(f"{folder} exists already", "Every backup gets a folder of its own.")
    written = _write(folder, where)
    if not session.answer(written.model_dump(mode="json")):
        print_lines("\n".join(f"{name}\t{number}" for name, number in written.rows.items()))
    if written.policies is None:
        note("without OCTARM_NATS_URL the policies are not in it", "yellow")


def _write(folder: Path, where: Where) -> manifest.Manifest:
    from octarm.cli.backup import dump, policies

    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True, mode=0o700)
    found = dump.dump(where.postgres, unfinished / manifest.DUMP)
    names, kept = [manifest.DUMP], None
    if where.nats:
        lines = asyncio.run(policies.read(where.nats))
        text = "".join(f"{line}\n" for line in lines)
        (unfinished / manifest.POLICIES).write_text(text, encoding="utf-8")
        names.append(manifest.POLICIES)
        kept = len(lines)
    written = manifest.write(
        unfinished,
        names,
        postgres=found.server,
        heads=found.heads,
        rows=found.rows,
        policies=kept,
    )
    unfinished.rename(folder)
    return written


def restore(
    session: Session,
    folder: Folder,
    *,
    postgres_url: PostgresUrl = "",
    nats_url: NatsUrl = "",
    data: Data = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Throw away the ledger, memory and policies there.")
    ] = False,
) -> None:
    """Put a backup back, all of it or nothing; services must be stopped.

    Without URLs it goes into the data folder of an embedded stack that does not run. After the
    next start, `octarm ledger reconcile --assume-empty` sends out at once what was open.
    """
    contents = manifest.read(folder)
    where = _given(postgres_url, nats_url)
    place = (data or data_folder()).expanduser().absolute()
    asyncio.run(_restore(folder, contents, where, data=place, replace=replace))
    if not session.answer(contents.model_dump(mode="json")):
        print_lines("\n".join(f"{name}\t{number}" for name, number in contents.rows.items()))
    if contents.policies is not None and where.postgres and not where.nats:
        note("without OCTARM_NATS_URL the policies were left out", "yellow")


async def _restore(
    folder: Path, contents: manifest.Manifest, where: Where, *, data: Path, replace: bool
) -> None:
    from octarm.cli.backup import dump, policies

    async with AsyncExitStack() as stack:
        if not where.postgres:
            where = await stack.enter_async_context(_embedded_servers(data))
        migrate = partial(migrate_all, where.postgres)
        file = folder / manifest.DUMP
        put_back = partial(dump.restore, migrate=migrate, replace=replace)
        await asyncio.to_thread(put_back, where.postgres, file, contents)
        if where.nats and contents.policies is not None:
            await provision_bus(where.nats)
            lines = (folder / manifest.POLICIES).read_text(encoding="utf-8").splitlines()
            await policies.put_back(where.nats, lines, replace=replace)


@asynccontextmanager
async def _embedded_servers(data: Path) -> AsyncGenerator[Where, None]:
    """Start the two servers of a data folder that nobody uses, for as long as it takes."""
    from octarm.cli.stack.servers import nats_server, postgres_server
    from octarm.cli.stack.upfile import holding

    with holding(data):
        async with AsyncExitStack() as stack:
            servers = postgres_server(data), nats_server(data)
            for server in servers:
                stack.push_async_callback(server.stop)
                await server.start()
            yield Where(*(server.url for server in servers))


def _given(postgres_url: str, nats_url: str) -> Where:
    return Where(
        postgres_url or secret("OCTARM_POSTGRES_URL") or "",
        nats_url or secret("OCTARM_NATS_URL") or "",
    )
