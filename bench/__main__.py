"""`make bench`: the whole system against the bare pipeline, in one run on one machine."""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

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
    processes = Table("process", "CPU idle %", "RSS idle MiB", "RSS after MiB")
    cpu, rss_idle, rss = (figures[name] for name in ("cpu_idle_percent", "rss_idle_mib", "rss_mib"))
    assert isinstance(cpu, dict)
    assert isinstance(rss_idle, dict)
    assert isinstance(rss, dict)
    for role in cpu:
        processes.add_row(role, f"{cpu[role]}", f"{rss_idle[role]}", f"{rss.get(role, 0)}")
    console.print(processes)


async def measured(folder: Path, n: int) -> Figures:
    """Start the stack in `folder`, let the measuring client run, stop the stack."""
    noop = (sys.executable, "-m", "bench.noop_arm")
    env = {"OCTARM_TRACE_SAMPLE": "0", "OCTARM_LOG_LEVEL": "warning"}
    async with running_stack(folder, extra_arms={"noop": noop}, env=env):
        client = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bench.measure", str(folder / "up.json"), str(n)),
            stdout=subprocess.PIPE,
        )
        output, _ = await client.communicate()
    if client.returncode:
        raise SystemExit("the measurement failed; see above")
    figures: Figures = json.loads(output)
    return figures


def main(n: int) -> None:
    """Measure, write `bench/out/latest.json`, show a table."""
    with tempfile.TemporaryDirectory(prefix="octarm-bench-") as folder:
        figures = asyncio.run(measured(Path(folder), n))
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(figures, indent=2) + "\n")
    show(figures)
    print(f"written to bench/out/{OUT.name}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=20_000, help="tasks of the throughput runs")
    main(parser.parse_args().n)
