"""The schemas of ledger and memory as one dump, taken in one snapshot, put back in one transaction.

Postgres' own programs do it: `pg_dump` and `pg_restore`.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from octarm.cli.backup.manifest import Manifest
from octarm.cli.stack.binaries import find_postgres
from octarm.cli.stack.errors import StackError
from octarm.models.errors import Conflict, InvalidRequest, OctarmError, Unavailable

SCHEMAS: Final = ("ledger", "memory")
COUNTED: Final = ("ledger.task", "ledger.attempt", "memory.episode", "memory.semantic")
_HEAD: Final = sql.SQL("max(version_num)")
_COUNT: Final = sql.SQL("count(*)")
_OTHERS: Final = """
select count(*) from pg_stat_activity
where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()
"""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the database was like when the dump was taken."""

    server: int
    heads: dict[str, str]
    rows: dict[str, int]


def dump(url: str, file: Path) -> Snapshot:
    """Write both schemas into `file`; work may go on meanwhile.

    Raises:
        OctarmError: the server cannot be reached, has no ledger, or a program failed.
    """
    with _connected(url) as connection:
        connection.execute("begin isolation level repeatable read, read only")
        row = connection.execute("select pg_export_snapshot()").fetchone()
        assert row is not None
        found = _look(connection)
        if "ledger" not in found.heads:
            raise InvalidRequest("this database has no ledger", "Is this the right Postgres URL?")
        schemas = [f"--schema={schema}" for schema in SCHEMAS]
        how = ["--format=custom", "--no-owner", f"--snapshot={row[0]}", f"--file={file}"]
        _run("pg_dump", [*how, *schemas], url, server=found.server)
    return found


def restore(
    url: str, file: Path, manifest: Manifest, *, migrate: Callable[[], None], replace: bool
) -> None:
    """Put a dump in place of the two schemas, all of it or nothing; then check its rows.

    `migrate` makes what a dump of schemas lacks (roles, extensions), and afterwards brings an
    older backup up to date.

    Raises:
        Conflict: something is connected, or there are tasks already and `replace` is not set.
        OctarmError: a program failed; nothing was changed.
    """
    with _connected(url) as connection:
        _refuse_unfit(connection, manifest, replace=replace)
    migrate()
    _put_back(url, file)
    migrate()
    with _connected(url) as connection:
        connection.execute("analyze")
        rows = _look(connection).rows
    if rows != manifest.rows:
        raise OctarmError(
            f"the backup has rows {manifest.rows}, the database now has {rows}",
            "Something wrote to it meanwhile: stop everything and restore again.",
        )


def _refuse_unfit(
    connection: psycopg.Connection[Any], manifest: Manifest, *, replace: bool
) -> None:
    server = connection.info.server_version
    if server // 10_000 < manifest.postgres // 10_000:
        raise InvalidRequest(
            f"the backup is of Postgres {manifest.postgres // 10_000}, "
            f"this server is {server // 10_000}",
            "Restore into the same or a newer version.",
        )
    row = connection.execute(_OTHERS).fetchone()
    if row is not None and row[0]:
        raise Conflict(
            f"{row[0]} others are connected to this database",
            "Stop orchestrators and memory services first.",
        )
    if not replace and any(_look(connection).rows.values()):
        raise Conflict(
            "there are tasks or memories in this database already",
            "Restore into an empty one, or say --replace to throw away what is there.",
        )


def _put_back(url: str, file: Path) -> None:
    """Restore in one transaction; what was there stands aside until that is done."""
    with _connected(url) as connection:
        _rename(connection, "{}_replaced", "{}")  # a restore that was killed
        _rename(connection, "{}", "{}_replaced")
        try:
            how = ["--no-owner", "--exit-on-error", "--single-transaction"]
            server = connection.info.server_version
            _run("pg_restore", [*how, str(file)], url, server=server)
        except BaseException:
            _rename(connection, "{}_replaced", "{}")
            raise
        for schema in SCHEMAS:
            connection.execute(f"drop schema if exists {schema}_replaced cascade")


def _rename(connection: psycopg.Connection[Any], old: str, new: str) -> None:
    """Rename the schemas, together; one whose new name is taken stays as it is."""
    with connection.transaction():
        for schema in SCHEMAS:
            here, there = old.format(schema), new.format(schema)
            if _exists(connection, here) and not _exists(connection, there):
                names = sql.Identifier(here), sql.Identifier(there)
                connection.execute(sql.SQL("alter schema {} rename to {}").format(*names))


def _exists(connection: psycopg.Connection[Any], schema: str) -> bool:
    row = connection.execute("select to_regnamespace(%s)", [schema]).fetchone()
    return row is not None and row[0] is not None


def _look(connection: psycopg.Connection[Any]) -> Snapshot:
    heads = {
        schema: str(found[0])
        for schema in SCHEMAS
        if (found := _only(connection, f"{schema}.{schema}_version", _HEAD))
    }
    rows = {name: int(found[0]) for name in COUNTED if (found := _only(connection, name, _COUNT))}
    return Snapshot(connection.info.server_version, heads, rows)


def _only(connection: psycopg.Connection[Any], table: str, what: sql.SQL) -> tuple[Any, ...] | None:
    """Ask a table for one row; None when there is no such table, or nothing in it."""
    known = connection.execute("select to_regclass(%s)", [table]).fetchone()
    if known is None or known[0] is None:
        return None
    query = sql.SQL("select {} from {}").format(what, sql.Identifier(*table.split(".")))
    row: tuple[Any, ...] | None = connection.execute(query).fetchone()
    return row if row is not None and row[0] is not None else None


def _connected(url: str) -> psycopg.Connection[Any]:
    try:
        return psycopg.connect(url, autocommit=True, connect_timeout=10)
    except psycopg.Error as error:
        reason = " ".join(str(error).split())
        raise Unavailable(f"Postgres cannot be reached: {reason}") from error


def _run(name: str, arguments: Sequence[str], url: str, *, server: int) -> None:
    where = conninfo_to_dict(url)
    # By a variable, as others may read a command line.
    password = {"PGPASSWORD": str(where.pop("password"))} if "password" in where else {}
    done = subprocess.run(
        [_program(name, server // 10_000), f"--dbname={make_conninfo('', **where)}", *arguments],
        env=os.environ | password,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    if done.returncode != 0:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no reason given"]
        raise OctarmError(f"{name} ended with {done.returncode}: {lines[0][:300]}")


def _program(name: str, least: int) -> str:
    """Find a program of Postgres that is at least as new as the server.

    Beside the server of the embedded stack, then on PATH.
    """
    on_path = shutil.which(name)
    candidates = [Path(on_path)] if on_path else []
    with suppress(StackError):
        candidates.insert(0, find_postgres().path.with_name(name))
    for path in candidates:
        if path.is_file() and _major_of(path) >= least:
            return str(path)
    raise Unavailable(
        f"there is no {name} of Postgres {least} or newer",
        "Install Postgres' client programs (Debian: postgresql-client), or octarm[embedded].",
    )


def _major_of(path: Path) -> int:
    said = subprocess.run(
        [path, "--version"], capture_output=True, text=True, timeout=10, check=False
    ).stdout
    found = re.search(r"\d+", said)
    return int(found[0]) if found else 0
