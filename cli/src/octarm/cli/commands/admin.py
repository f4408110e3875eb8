"""`octarm db migrate`, `octarm bus provision` and `octarm version`: what operators need."""

import asyncio
import os
import subprocess
import sys
from importlib.metadata import version as installed_version
from platform import python_version
from typing import Annotated

import typer

from octarm.cli.command import Session, command, sub_app
from octarm.cli.output import print_lines
from octarm.cli.profiles import embedded_url
from octarm.common.secret_files import secret
from octarm.models.errors import InvalidRequest, OctarmError, Unavailable

MIGRATED = ("octarm.orchestrator", "octarm.memory")
TIMEOUT_S = 600


def register(app: typer.Typer) -> None:
    """Add the commands."""
    db = sub_app("Prepare the database.")
    bus = sub_app("Prepare the message bus.")
    app.add_typer(db, name="db")
    app.add_typer(bus, name="bus")
    command(
        db,
        "migrate",
        remote=False,
        examples=(
            "octarm db migrate",
            "OCTARM_POSTGRES_URL=postgresql://… octarm db migrate",
        ),
    )(migrate)
    command(
        bus,
        "provision",
        remote=False,
        examples=("octarm bus provision", "octarm bus provision --replicas 3 --shards 4"),
    )(provision)
    command(app, "version", remote=False, examples=("octarm version --json",))(version)


def migrate(
    session: Session,
    postgres_url: Annotated[
        str,
        typer.Option(
            "--postgres-url",
            envvar="OCTARM_POSTGRES_URL",
            show_envvar=True,
            help="Postgres; by default that of the running embedded stack.",
        ),
    ] = "",
) -> None:
    """Bring the tables of orchestrator and memory up to date; may be run again at any time."""
    url = postgres_url or secret("OCTARM_POSTGRES_URL") or embedded_url("postgres")
    if not url:
        raise InvalidRequest("no Postgres is known", "Give --postgres-url or OCTARM_POSTGRES_URL.")
    migrate_all(url)
    if not session.answer({"migrated": list(MIGRATED)}):
        print_lines("\n".join(f"{package} migrated" for package in MIGRATED))


def migrate_all(url: str) -> None:
    """Run the migrations of every service that has tables.

    Raises:
        OctarmError: one failed.
    """
    for package in MIGRATED:
        _migrate(package, url)


def _migrate(package: str, url: str) -> None:
    try:
        done = subprocess.run(
            [sys.executable, "-m", package, "migrate"],
            env={**os.environ, "OCTARM_POSTGRES_URL": url},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{package} did not finish migrating in {TIMEOUT_S} s") from None
    if done.returncode != 0:
        last = (done.stderr.strip() or "no reason given").splitlines()[-1]
        raise OctarmError(f"{package} could not migrate: {last}", "Check the URL and its rights.")


def provision(
    session: Session,
    nats_url: Annotated[
        str,
        typer.Option(
            "--nats-url",
            envvar="OCTARM_NATS_URL",
            show_envvar=True,
            help="NATS; by default that of the running embedded stack.",
        ),
    ] = "",
    replicas: Annotated[int, typer.Option("--replicas", min=1, max=5, help="Of each stream.")] = 1,
    shards: Annotated[
        int,
        typer.Option(
            "--shards", min=1, max=64, envvar="OCTARM_SHARDS", show_envvar=True, help="Schedulers."
        ),
    ] = 1,
) -> None:
    """Create or update streams, consumers and buckets; may be run again at any time."""
    url = nats_url or secret("OCTARM_NATS_URL") or embedded_url("nats")
    if not url:
        raise InvalidRequest("no NATS is known", "Give --nats-url or OCTARM_NATS_URL.")
    done = asyncio.run(provision_bus(url, replicas=replicas, shards=shards))
    if not session.answer(done):
        print_lines("\n".join(done))


async def provision_bus(url: str, *, replicas: int = 1, shards: int = 1) -> list[str]:
    """Make what is missing on a bus; gives what was done, one line each."""
    from octarm.common.bus.connection import connected_to
    from octarm.common.bus.topology import provision as provision_streams

    async with connected_to(url, name="octarm-provision") as connection:
        return await provision_streams(connection.jetstream(), replicas=replicas, shards=shards)


def version(session: Session) -> None:
    """Show the version."""
    document = {"octarm": installed_version("octarm"), "python": python_version()}
    if not session.answer(document):
        print_lines(f"octarm {document['octarm']} (Python {document['python']})")
