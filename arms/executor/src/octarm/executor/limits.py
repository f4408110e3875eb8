"""What one run may use, and what came of it."""

from dataclasses import dataclass
from typing import Literal

LimitName = Literal["time", "cpu", "memory", "files", "output"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one run; whichever is reached first ends it.

    `memory_mib` bounds the resident memory of all its processes together; the address space
    of each single process is bounded by twice that. `work_mib` is the size of its folder.
    Of each of stdout and stderr the first `output_bytes` are kept; what follows is read and
    thrown away, up to `flood_bytes`, where the run is ended.
    """

    wall_s: float = 60.0
    cpu_s: int = 30
    memory_mib: int = 512
    work_mib: int = 64
    processes: int = 64
    open_files: int = 256
    files: int = 10_000
    output_bytes: int = 64 * 1024
    flood_bytes: int = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a finished run left behind.

    `exit_code` is 128 + the signal's number for a program that a signal ended.
    `limit` names the bound that ended the run, or is None when it ended by itself.
    """

    stdout: str
    stderr: str
    exit_code: int
    duration_ms: int
    limit: LimitName | None = None
    stdout_truncated: bool = False
    stderr_truncated: bool = False
