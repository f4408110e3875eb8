"""How the embedded Postgres is created, configured, cleaned up and recognised."""

import os
import secrets
import shutil
import signal
import sys
from pathlib import Path

import psutil

from octarm.cli.stack import binaries
from octarm.cli.stack.binaries import Program
from octarm.cli.stack.children import Command, last_line, run_to_end
from octarm.cli.stack.errors import StackError
from octarm.cli.stack.ports import LOOPBACK
from octarm.cli.stack.unprivileged import Account, unprivileged_account

USER = "octarm"
DATABASE = "octarm"
_INIT_TIMEOUT_S = 120.0
_ORPHAN_TIMEOUT_S = 15.0
# sockaddr_un.sun_path is 108 bytes with its final NUL on Linux, 104 on macOS.
_SOCKET_PATH_BYTES = 107 if sys.platform.startswith("linux") else 103
_SETTINGS = {
    "listen_addresses": LOOPBACK,
    "max_connections": "200",
    "shared_buffers": "128MB",
    "max_wal_size": "2GB",
    # Every byte of the log would be written twice until its files are used again.
    "wal_init_zero": "off",
}
if sys.platform.startswith("linux"):
    # After a crash all of the cluster must be on the disk before it is replayed: one call for the
    # file system, where the default opens and syncs each of its 1,500 files.
    _SETTINGS["recovery_init_sync_method"] = "syncfs"
_NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class PostgresRecipe:
    """Postgres with password logins only, on the loopback address and a socket in its folder."""

    name = "postgres"

    def __init__(self, data: Path, *, durable: bool = True) -> None:
        self._cluster = data / "postgres"
        self._log = data / "logs" / "postgres.log"
        self._password_file = data / "postgres.password"
        self._durable = durable

    async def prepare(self, port: int) -> Command:
        """Create the cluster at the first start; see `Recipe.prepare`."""
        program = binaries.find_postgres()
        account = await unprivileged_account()
        if not self._cluster.exists():
            await self._create(program, account)
        self._refuse_another_version(program)
        _clean_up_after_a_crash(self._cluster)
        settings = _SETTINGS | ({} if self._durable else _NOT_DURABLE)
        settings |= {"port": str(port), "unix_socket_directories": self._socket_folder(port)}
        argv = [*account.prefix, str(program.path), "-D", str(self._cluster)]
        for key, value in settings.items():
            argv += ["-c", f"{key}={value}"]
        return Command(
            argv=argv,
            log=self._log,
            user=account.user,
            # SIGINT is its fast shutdown; SIGKILL would leave its shared memory behind.
            stop_signal=signal.SIGINT,
            death_signal=signal.SIGQUIT,
        )

    async def answers(self, port: int, pid: int) -> bool:
        """Whether the process `pid` wrote into its lock file that it is ready."""
        lines = _lock_file_lines(self._cluster)
        return len(lines) > 7 and int(lines[0]) == pid and lines[7].strip() == "ready"

    def url(self, port: int) -> str:
        """`postgresql://octarm:<password>@127.0.0.1:<port>/octarm`."""
        password = self._password_file.read_text().strip()
        return f"postgresql://{USER}:{password}@{LOOPBACK}:{port}/{DATABASE}"

    def _socket_folder(self, port: int) -> str:
        path = self._cluster / f".s.PGSQL.{port}"
        if len(os.fsencode(path)) > _SOCKET_PATH_BYTES:
            return ""
        # A list of folders, where a quoted one may hold commas.
        return '"' + str(self._cluster).replace('"', '""') + '"'

    async def _create(self, program: Program, account: Account) -> None:
        """Make the cluster beside its place and move it there when it is whole."""
        unfinished = self._cluster.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True, mode=0o700)
        self._password_file.unlink(missing_ok=True)
        self._password_file.touch(mode=0o600)
        self._password_file.write_text(secrets.token_urlsafe(24))
        account.give(unfinished)
        account.give(self._password_file)
        initdb = program.path.with_name("initdb")
        folder, password = str(unfinished), str(self._password_file)
        locale = ["--encoding=UTF8", "--locale=C"]
        login = ["-U", USER, f"--pwfile={password}", "--auth=scram-sha-256"]
        sync = [] if self._durable else ["--no-sync"]
        await self._run(account, [str(initdb), "-D", folder, *locale, *login, *sync])
        single = [str(program.path), "--single", "-D", folder, "postgres"]
        await self._run(account, single, stdin=f"CREATE DATABASE {DATABASE};\n".encode())
        unfinished.rename(self._cluster)

    async def _run(self, account: Account, argv: list[str], *, stdin: bytes = b"") -> None:
        command = Command(argv=[*account.prefix, *argv], log=self._log, user=account.user)
        exit_code = await run_to_end(command, stdin=stdin, timeout_s=_INIT_TIMEOUT_S)
        if exit_code != 0:
            name = Path(argv[0]).name
            raise StackError(
                f"{name} ended with {exit_code}: {last_line(self._log)}", f"see {self._log}"
            )

    def _refuse_another_version(self, program: Program) -> None:
        made_with = (self._cluster / "PG_VERSION").read_text().strip()
        if made_with != str(program.version[0]):
            raise StackError(
                f"{self._cluster} was made by Postgres {made_with}, this is {program.version_text}",
                f"use Postgres {made_with}, or another --data folder",
            )


def _lock_file_lines(cluster: Path) -> list[str]:
    try:
        return (cluster / "postmaster.pid").read_text().split("\n")
    except FileNotFoundError:
        return []


def _clean_up_after_a_crash(cluster: Path) -> None:
    """End an orphaned Postgres of this cluster; remove a lock file that names a stranger.

    Postgres itself recognises a dead process, but takes any live one that was given the same
    process id since for its own.

    Raises:
        StackError: the orphan does not end.
    """
    lines = _lock_file_lines(cluster)
    if not lines or not lines[0].strip().isdigit():
        return
    try:
        process = psutil.Process(int(lines[0]))
        is_ours = str(cluster) in process.cmdline()
        if is_ours:
            process.send_signal(signal.SIGINT)
            process.wait(_ORPHAN_TIMEOUT_S)
        else:
            (cluster / "postmaster.pid").unlink(missing_ok=True)
    except psutil.NoSuchProcess:
        return
    except (psutil.TimeoutExpired, psutil.AccessDenied) as error:
        raise StackError(
            f"Postgres process {lines[0]} still uses {cluster}", f"end it: kill -INT {lines[0]}"
        ) from error
