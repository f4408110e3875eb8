"""What a script may use, and how a process is bound to it."""

import os
import resource
from pathlib import Path
from typing import Final

from msgspec import Struct

MIB: Final = 1 << 20


class Limits(Struct, frozen=True):
    """The bounds of one child process and of the calls it answers.

    `call_ms` is processor time, so that a busy machine fails no policy; a child that has not
    answered `grace_ms` of real time after that, and what its context takes, is killed.
    `memory_mib` bounds what script, context and answer take beyond the bare process,
    `process_mib` bounds all of it. A child that has grown by `worn_mib` after a call is replaced.
    """

    call_ms: int = 50
    grace_ms: int = 200
    load_ms: int = 500
    memory_mib: int = 96
    worn_mib: int = 16
    process_mib: int = 256
    call_depth: int = 100
    max_source_bytes: int = 65_536
    max_return_bytes: int = 262_144
    max_print_bytes: int = 16_384


class Size:
    """Asks for the address space of this process; opens what it needs when it is made."""

    def __init__(self) -> None:
        path = Path("/proc/self/statm")
        self._statm = os.open(path, os.O_RDONLY) if path.exists() else None
        self._page = os.sysconf("SC_PAGE_SIZE")

    def now(self) -> int:
        """Give the bytes; 0 where the system does not tell."""
        if self._statm is None:
            return 0
        return int(os.pread(self._statm, 64, 0).split()[0]) * self._page


def confine(limits: Limits, size: Size) -> None:
    """Bind this process: memory, no files, no processes, no core; what is open stays open."""
    bare = size.now() or limits.process_mib * MIB
    _limit(resource.RLIMIT_AS, min(bare + limits.memory_mib * MIB, limits.process_mib * MIB))
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NPROC, 0)
    # Every number below is taken: nothing can be opened.
    _limit(resource.RLIMIT_NOFILE, 0)


def allow_cpu(seconds: int) -> None:
    """Let this process use that much more processor time before the kernel ends it."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime) + seconds + 1
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def _limit(which: int, value: int) -> None:
    resource.setrlimit(which, (value, value))
