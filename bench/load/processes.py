"""Memory, file descriptors and CPU time of the stack's processes."""

import asyncio
import statistics
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import psutil

MIB = 2**20
CPUCLOCK_SCHED = 2
"""Of linux/posix-timers_types.h: what a process has run, of all its threads."""


def tree(pid: int) -> list[psutil.Process]:
    """Give a process and those below it (Postgres works in children)."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def own_processes(pids: Mapping[str, int]) -> dict[str, int]:
    """Leave out the supervisor: all the others are its children."""
    return {role: pid for role, pid in pids.items() if role != "supervisor"}


def cpu_s(pids: Mapping[str, int]) -> dict[str, float]:
    """Give the CPU seconds of each role, of what lives, without what has a role of its own."""
    named = set(pids.values())
    return {
        role: sum(_cpu(p) for p in tree(pid) if p.pid == pid or p.pid not in named)
        for role, pid in pids.items()
    }


def memory_mib(role: str, pid: int) -> float:
    """Give a role's memory: RSS, or for Postgres what its processes do not share."""
    total = 0.0
    for process in tree(pid):
        with suppress(psutil.Error):
            if role == "postgres":
                total += process.memory_full_info().uss
            else:
                total += process.memory_info().rss
    return total / MIB


def _cpu(process: psutil.Process) -> float:
    """Ask the process's own clock, in nanoseconds: /proc counts ticks of ten milliseconds."""
    with suppress(OSError):
        return time.clock_gettime(~process.pid << 3 | CPUCLOCK_SCHED)
    return 0.0


@dataclass(slots=True)
class Watched:
    """What was seen of each role: (seconds, MiB, file descriptors)."""

    pids: Mapping[str, int]
    seen: dict[str, list[tuple[float, float, int]]] = field(default_factory=dict)

    async def watch(self, every_s: float) -> None:
        """Look until cancelled."""
        clock = asyncio.get_running_loop().time
        began = clock()
        while True:
            for role, pid in self.pids.items():
                fds = 0
                with suppress(psutil.Error):
                    fds = psutil.Process(pid).num_fds()
                sample = (clock() - began, memory_mib(role, pid), fds)
                self.seen.setdefault(role, []).append(sample)
            await asyncio.sleep(every_s)

    def told(self, warm_up: float = 0.5) -> dict[str, dict[str, float]]:
        """Give for each role its greatest memory, and its slope after the first part.

        What is bounded fills first: Redis to its limit, nats-server its duplicate window.
        """
        return {role: _told(samples, warm_up) for role, samples in self.seen.items()}


def _told(samples: list[tuple[float, float, int]], warm_up: float) -> dict[str, float]:
    later = samples[int(len(samples) * warm_up) :]
    slope = 0.0
    if len(later) > 1 and later[-1][0] > later[0][0]:
        slope = statistics.linear_regression([s[0] for s in later], [s[1] for s in later]).slope
    return {
        "first_mib": round(samples[0][1], 1),
        "last_mib": round(samples[-1][1], 1),
        "max_mib": round(max(sample[1] for sample in samples), 1),
        "slope_mib_per_min": round(slope * 60, 3),
        "fds_first": samples[0][2],
        "fds_last": samples[-1][2],
    }
