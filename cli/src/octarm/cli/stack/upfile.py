"""The files in the data folder that tell others about a running stack: `lock` and `up.json`."""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from octarm.cli.stack.errors import StackError


@dataclass(frozen=True, slots=True)
class Urls:
    """Where to reach a running stack."""

    gateway: str
    nats: str
    redis: str
    postgres: str


@contextmanager
def holding(data: Path) -> Iterator[None]:
    """Own the data folder: nobody else can, until we leave or die.

    Raises:
        StackError: another process owns it, or it cannot be written.
    """
    try:
        data.mkdir(parents=True, exist_ok=True)
        lock = os.open(data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StackError(
            f"cannot use the data folder {data}: {error.strerror}", "choose another with --data"
        ) from error
    try:
        _take(lock, data)
        yield
    finally:
        os.close(lock)


def write_up_file(data: Path, urls: Urls, pids: Mapping[str, int]) -> None:
    """Replace `<data>/up.json` at once; only its owner may read it: it holds a password."""
    content = {**asdict(urls), "pids": dict(pids), "version": version("octarm")}
    unfinished = data / "up.json.unfinished"
    unfinished.unlink(missing_ok=True)
    unfinished.touch(mode=0o600)
    unfinished.write_text(json.dumps(content, indent=2) + "\n")
    unfinished.replace(data / "up.json")


def remove_up_file(data: Path) -> None:
    """Say that nothing runs here. Idempotent."""
    (data / "up.json").unlink(missing_ok=True)


def rotate_logs(logs: Path) -> None:
    """Keep the logs of the last run as `<role>.log.1` and begin new ones."""
    logs.mkdir(parents=True, exist_ok=True)
    for log in logs.glob("*.log"):
        log.replace(log.with_name(f"{log.name}.1"))


def _take(lock: int, data: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, 20, 0).decode().strip() or "unknown"
        raise StackError(
            f"process {holder} already runs a stack in {data}",
            f"stop it with `kill {holder}`, or choose another folder with --data",
        ) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
