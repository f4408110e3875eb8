"""`make bench`: the whole system against the bare pipeline, in one run on one machine."""

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.client import figures_of
from bench.peers import session
from bench.peers.harness import NAMES
from octarm.cli.stack.supervisor import running_stack

OUT = Path(__file__).parent / "out" / "latest.json"
Figures = dict[str, float | int | dict[str, float]]


def show(figures: Figures) -> None:
    """Print the figures as tables."""
    console = Console()
    table = Table("figure", "value", title=f"Octarm, {figures['n_tasks']} no-op tasks")
    for name, value in figures.items():
        if not isinstance(value, dict):
            table.add_row(name, f"{value:,}")
    console.print(table)
    processes = Table("process", "CPU idle %", "CPU µs/task", "RSS idle MiB", "RSS after MiB")
    names = ("cpu_idle_percent", "cpu_us_per_task", "rss_idle_mib", "rss_mib")
    cpu, work, rss_idle, rss = (figures[name] for name in names)
    assert isinstance(cpu, dict)
    assert isinstance(work, dict)
    assert isinstance(rss_idle, dict)
    assert isinstance(rss, dict)
    for role in cpu:
        row = (cpu[role], work[role], rss_idle[role], rss.get(role, 0))
        processes.add_row(role, *map(str, row))
    console.print(processes)


async def measured(folder: Path, n: int) -> Figures:
    """Start the stack in `folder`, let the measuring client run, stop the stack."""
    noop = (sys.executable, "-m", "bench.noop_arm")
    env = {"OCTARM_TRACE_SAMPLE": "0", "OCTARM_LOG_LEVEL": "warning"}
    async with running_stack(folder, extra_arms={"noop": noop}, env=env):
        figures: Figures = await figures_of("bench.measure", str(folder / "up.json"), str(n))
    return figures


def measured_peers(names: list[str], n: int) -> dict[str, Any]:
    """Measure the other queues on the same servers, in a folder of their own."""
    with tempfile.TemporaryDirectory(prefix="octarm-peers-") as folder:
        return asyncio.run(session.session(Path(folder), names, n))


def main(given: argparse.Namespace) -> None:
    """Measure, write `bench/out/latest.json`, show tables."""
    with tempfile.TemporaryDirectory(prefix="octarm-bench-") as folder:
        figures = asyncio.run(measured(Path(folder), given.n))
    written: dict[str, Any] = {**figures}
    if given.peers is not None:
        written["peers"] = measured_peers(given.peers, given.peers_n)
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(written, indent=2) + "\n")
    show(figures)
    if given.peers is not None:
        ours, bare_rate = (figures[name] for name in ("tasks_per_s", "bare_tasks_per_s"))
        assert not isinstance(ours, dict)
        assert not isinstance(bare_rate, dict)
        session.show(written["peers"], ours, bare_rate)
    print(f"written to bench/out/{OUT.name}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=20_000, help="tasks of the throughput runs")
    parser.add_argument(
        "--peers", nargs="*", metavar="PEER", help=f"others to measure (none named: all): {NAMES}"
    )
    parser.add_argument("--peers-n", type=int, default=5_000, help="tasks of each peer's run")
    main(parser.parse_args())
