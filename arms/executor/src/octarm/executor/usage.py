"""What a process and everything below it use right now, read from /proc."""

import os
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Usage:
    """Totals over a process tree; `cpu_s` counts its ended and reaped members too."""

    processes: int
    cpu_s: float
    rss_bytes: int


def usage_of(root_pid: int) -> Usage:
    """Add up the tree below and including `root_pid`; what ends meanwhile counts as nothing."""
    processes, cpu_ticks, rss_pages = 0, 0, 0
    waiting = [root_pid]
    while waiting:
        process = Path("/proc", str(waiting.pop()))
        try:
            # The name, second in the line, may hold spaces and brackets: read past its end.
            fields = (process / "stat").read_bytes().rpartition(b")")[2].split()
            waiting.extend(_children(process))
        except (FileNotFoundError, ProcessLookupError):
            continue
        processes += 1
        cpu_ticks += sum(map(int, fields[11:15]))
        rss_pages += int(fields[21])
    return Usage(processes, cpu_ticks / _TICKS_PER_S, rss_pages * _PAGE_BYTES)


def _children(process: Path) -> list[int]:
    """Children of every thread: a child belongs to the thread that started it."""
    return [
        int(pid)
        for thread in (process / "task").iterdir()
        for pid in (thread / "children").read_bytes().split()
    ]


def files_in(root_pid: int, folders: tuple[str, ...]) -> int:
    """Count the files in these folders of the sandbox whose outermost process is `root_pid`.

    Each folder must be a file system of its own. 0 before the sandbox is set up and after it ended.
    """
    try:
        inside = Path("/proc", str(_children(Path("/proc", str(root_pid)))[0]), "root")
        if inside.stat().st_dev == Path("/").stat().st_dev:
            return 0
        rooms = [os.statvfs(f"{inside}{folder}") for folder in folders]
    except (OSError, IndexError):
        return 0
    return sum(room.f_files - room.f_ffree for room in rooms)
