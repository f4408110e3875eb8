"""`python -m bench.tracing`: what tracing costs, all shares in the same run on the same machine.

For each share of sampled tasks a stack is started and measured, one after the other and in
several rounds, so that what else happens on the machine meets all of them. Spans go to files, or
with `--export otlp` to a collector that only reads them. The CPU time of each process is given
too: it says where the cost is, and what else runs here disturbs it least.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import uvloop
from rich.console import Console
from rich.table import Table

from bench.client import figures_of
from bench.load.processes import cpu_s, own_processes
from bench.measure import settled, throughput
from bench.sink import sink
from octarm.cli.stack.supervisor import running_stack
from octarm.sdk import Client

SHARES: Final = (0.0, 0.01, 1.0)
WARM_UP: Final = 2_000
SETTLE_S: Final = 2.0
"""For this long memory and exporters may finish what they do after the last result."""
SERVERS: Final = ("nats", "postgres", "redis")
OUT: Final = Path(__file__).parent / "out" / "tracing.json"
Figures = dict[str, Any]


async def measured(folder: Path, share: float, given: argparse.Namespace) -> Figures:
    """Start a stack that samples `share` of its tasks; give its tasks a second, and its CPU."""
    noop = (sys.executable, "-m", "bench.noop_arm")
    with exported(folder, given.export) as (export, count):
        env = {
            "OCTARM_TRACE_EXPORT": export,
            "OCTARM_TRACE_SAMPLE": str(share),
            "OCTARM_LOG_LEVEL": "warning",
        }
        async with running_stack(folder, extra_arms={"noop": noop}, env=env):
            figures: Figures = await figures_of(
                "bench.tracing", "--n", str(given.n), "--client", str(folder / "up.json")
            )
        return figures | {"spans": count()}


@contextmanager
def exported(folder: Path, export: str) -> Iterator[tuple[str, Any]]:
    """Give the setting of where spans go, and what counts those that came.

    A run without spans would cost nothing and prove nothing.
    """
    if export == "otlp":
        with sink() as (url, spans):
            yield f"otlp:{url}", spans
        return
    traces = folder / "traces"
    yield (
        f"file:{traces}",
        lambda: sum(path.read_bytes().count(b"\n") for path in traces.glob("*.jsonl")),
    )


async def load(up: Figures, n: int) -> Figures:
    """Be the client: warm up, then send `n` tasks and await every result."""
    pids = own_processes(up["pids"])
    async with Client(up["nats"]) as client:
        await throughput(client, min(n, WARM_UP))
        await settled(client)
        await asyncio.sleep(SETTLE_S)
        before = cpu_s(pids)
        rate = await throughput(client, n)
        await settled(client)
        await asyncio.sleep(SETTLE_S)
        after = cpu_s(pids)
    return {
        "tasks_per_s": round(rate, 1),
        "cpu_us_a_task": {role: round((after[role] - before[role]) / n * 1e6, 1) for role in pids},
    }


def main(given: argparse.Namespace) -> None:
    """Measure, write `bench/out/tracing.json`, show a table."""
    found: dict[float, list[Figures]] = {share: [] for share in SHARES}
    for number in range(given.rounds):
        # Every other round the other way round: the machine may grow warmer, or emptier.
        for share in SHARES if number % 2 == 0 else reversed(SHARES):
            with tempfile.TemporaryDirectory(prefix="octarm-tracing-") as name:
                found[share].append(asyncio.run(measured(Path(name), share, given)))
    base = _median(found[0.0], "tasks_per_s")
    rows = [_row(share, figures, base) for share, figures in found.items()]
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps({"n_tasks": given.n, "rows": rows}, indent=2) + "\n")
    show(rows)


def _row(share: float, rounds: list[Figures], base: float) -> Figures:
    rate = _median(rounds, "tasks_per_s")
    by_role = [figures["cpu_us_a_task"] for figures in rounds]
    cpu = {role: round(_median(by_role, role), 1) for role in by_role[0]}
    return {
        "share": share,
        "tasks_per_s": round(rate, 1),
        "cost_percent": round((1 - rate / base) * 100, 1),
        "all": [figures["tasks_per_s"] for figures in rounds],
        "spans": rounds[-1]["spans"],
        "cpu_us_a_task": cpu
        | {"processes of ours": round(sum(v for k, v in cpu.items() if k not in SERVERS), 1)},
    }


def _median(figures: list[Figures], name: str) -> float:
    return float(statistics.median(each[name] for each in figures))


def show(rows: list[Figures]) -> None:
    """Print the figures as tables."""
    table = Table("sampled", "tasks/s (median)", "cost %", "rounds", "spans", title="Tracing")
    for row in rows:
        table.add_row(*(str(value) for name, value in row.items() if name != "cpu_us_a_task"))
    costs = Table("CPU µs a task", *(f"{row['share']:.0%}" for row in rows))
    for role in rows[0]["cpu_us_a_task"]:
        costs.add_row(role, *(str(row["cpu_us_a_task"][role]) for row in rows))
    Console().print(table, costs)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--export", choices=("file", "otlp"), default="file")
    parser.add_argument("--client", default="")
    arguments = parser.parse_args()
    if arguments.client:
        stack = json.loads(Path(arguments.client).read_text())
        print(json.dumps(uvloop.run(load(stack, arguments.n))))
    else:
        main(arguments)
