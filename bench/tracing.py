"""`python -m bench.tracing`: what tracing costs, all shares in the same stack by turns.

In each round every share of sampled tasks is measured for a few seconds, one after the other, and
the order changes from round to round: what else happens on the machine and in Postgres meets all
of them. Spans go to a collector that only takes them, or with `--export file` to files. Each turn
is compared with the one of its round that traced nothing, and what is told is the mean with its
standard error, and the median. CPU time says most: what else runs here moves the throughput of
single rounds by a third, and CPU time much less. The clocks of the threads that export are not
disturbed at all; what a sampled task costs besides, all of them cost at 100 %.
"""

import argparse
import asyncio
import json
import os
import signal
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import permutations
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
from octarm.common.telemetry.exporters import OTLP_EVERY_S
from octarm.sdk import Client

SHARES: Final = (0.0, 0.01, 1.0)
ORDERS: Final = list(permutations(SHARES))
WARM_UP: Final = 2_000
HEARD_S: Final = 0.5
SETTLE_S: Final = OTLP_EVERY_S + 0.5
"""For this long memory and exporters may finish what they do after the last result."""
CONFIG: Final = "octarm.toml"
SERVERS: Final = ("nats", "postgres", "redis")
CLIENT: Final = "client"
COLLECTOR: Final = "collector"
"""Takes its part of the same cores; elsewhere it would run on its own."""
OUT: Final = Path(__file__).parent / "out" / "tracing.json"
Figures = dict[str, Any]


async def measured(folder: Path, given: argparse.Namespace) -> Figures:
    """Start a stack; give the rounds of each share of sampled tasks, and how many spans came."""
    noop = (sys.executable, "-m", "bench.noop_arm")
    sampling(folder, 0.0)
    with exported(folder, given.export) as (export, collector, count):
        env = {
            "OCTARM_TRACE_EXPORT": export,
            "OCTARM_CONFIG": str(folder / CONFIG),
            # Empty is absent: the file says it.
            "OCTARM_TRACE_SAMPLE": "",
            "OCTARM_LOG_LEVEL": "warning",
        }
        sized = ("--n", str(given.n), "--rounds", str(given.rounds))
        async with running_stack(folder, extra_arms={"noop": noop}, env=env):
            client = ("--client", str(folder / "up.json"))
            figures: Figures = await figures_of(
                "bench.tracing", *sized, *client, "--collector", str(collector)
            )
        return figures | {"spans": count()}


def sampling(folder: Path, share: float) -> None:
    """Write down how many tasks are to be sampled, for who reads it at SIGHUP."""
    (folder / CONFIG).write_text(f"[common]\ntrace_sample = {share}\n")


@contextmanager
def exported(folder: Path, export: str) -> Iterator[tuple[str, int, Any]]:
    """Give the setting of where spans go, whose process takes them, and what counts them.

    A run without spans would cost nothing and prove nothing.
    """
    if export == "otlp":
        with sink() as (url, process, spans):
            yield f"otlp:{url}", process, spans
        return
    traces = folder / "traces"
    yield (
        f"file:{traces}",
        0,
        lambda: sum(path.read_bytes().count(b"\n") for path in traces.glob("*.jsonl")),
    )


async def load(up: Figures, folder: Path, given: argparse.Namespace) -> Figures:
    """Be the client: warm up, then measure every share by turns."""
    pids = own_processes(up["pids"]) | {CLIENT: os.getpid()}
    if given.collector:
        pids[COLLECTOR] = given.collector
    found: dict[float, list[Figures]] = {share: [] for share in SHARES}
    async with Client(up["nats"]) as client:
        await throughput(client, min(given.n, WARM_UP))
        for number in range(given.rounds):
            for share in ORDERS[number % len(ORDERS)]:
                sampling(folder, share)
                os.kill(pids["orchestrator"], signal.SIGHUP)
                await asyncio.sleep(HEARD_S)
                found[share].append(await turn(client, pids, given.n))
    return {"shares": [{"share": share, "turns": turns} for share, turns in found.items()]}


async def turn(client: Client, pids: Mapping[str, int], n: int) -> Figures:
    """Send `n` tasks and await every result; give tasks a second, and the CPU of each process."""
    before, beside = cpu_s(pids), beside_main_s(pids)
    rate = await throughput(client, n)
    await settled(client)
    await asyncio.sleep(SETTLE_S)
    after = cpu_s(pids)
    return {
        "tasks_per_s": round(rate, 1),
        "exporting_us": (beside_main_s(pids) - beside) / n * 1e6,
        "cpu_us_a_task": {role: round((after[role] - before[role]) / n * 1e6, 1) for role in pids},
    }


def beside_main_s(pids: Mapping[str, int]) -> float:
    """Give the CPU seconds of our services' threads but the main ones: those export spans."""
    found = 0
    for role in pids.keys() - {*SERVERS, CLIENT, COLLECTOR}:
        for thread in Path(f"/proc/{pids[role]}/task").iterdir():
            if int(thread.name) != pids[role]:
                found += int((thread / "schedstat").read_text().split()[0])
    return found / 1e9


def main(given: argparse.Namespace) -> None:
    """Measure, write `bench/out/tracing.json`, show a table."""
    with tempfile.TemporaryDirectory(prefix="octarm-tracing-") as name:
        found = asyncio.run(measured(Path(name), given))
    (base, *_) = (each["turns"] for each in found["shares"])
    rows = [_row(each["share"], each["turns"], base) for each in found["shares"]]
    OUT.parent.mkdir(exist_ok=True)
    document = {"n_tasks": given.n, "export": given.export, "spans": found["spans"], "rows": rows}
    OUT.write_text(json.dumps(document, indent=2) + "\n")
    show(rows, found["spans"])


def _row(share: float, turns: list[Figures], base: list[Figures]) -> Figures:
    roles = turns[0]["cpu_us_a_task"]
    by_role = {
        role: round(statistics.median(it["cpu_us_a_task"][role] for it in turns), 1)
        for role in roles
    }
    both = list(zip(turns, base, strict=True))
    return {
        "share": share,
        "tasks_per_s": statistics.median(it["tasks_per_s"] for it in turns),
        "all": [it["tasks_per_s"] for it in turns],
        # Each turn against that of its own round.
        "cost_percent": _percent([1 - one["tasks_per_s"] / no["tasks_per_s"] for one, no in both]),
        "cpu": _cpu(both),
        "exporting_us": round(statistics.median(it["exporting_us"] for it in turns), 2),
        "cpu_us_a_task": by_role,
    }


def _cpu(both: list[tuple[Figures, Figures]]) -> Figures:
    """Tell the CPU of our services: of the turns, and what each has more than its pair."""

    def spent(turn: Figures) -> float:
        roles: dict[str, float] = turn["cpu_us_a_task"]
        others = (*SERVERS, CLIENT, COLLECTOR)
        return sum(value for role, value in roles.items() if role not in others)

    all_us = [spent(one) for one, _ in both]
    return {
        "us_a_task": round(statistics.median(all_us), 1),
        "all": [round(each, 1) for each in all_us],
        "cost_percent": _percent([spent(one) / spent(no) - 1 for one, no in both]),
    }


def _percent(shares: list[float]) -> dict[str, float]:
    error = statistics.stdev(shares) / len(shares) ** 0.5 if len(shares) > 1 else 0.0
    found = {
        "mean": statistics.fmean(shares),
        "standard_error": error,
        "median": statistics.median(shares),
    }
    return {name: round(value * 100, 2) for name, value in found.items()}


def show(rows: list[Figures], spans: int) -> None:
    """Print the figures as tables."""
    names = ("sampled", "tasks/s", "cost", "our CPU µs a task", "cost", "of it exporting")
    table = Table(*names, title=f"Tracing, {spans:,} spans exported")
    for row in rows:
        cpu = row["cpu"]
        table.add_row(
            f"{row['share']:.0%}",
            f"{row['tasks_per_s']:,.0f}\n{_range(row['all'])}",
            _said(row["cost_percent"]),
            f"{cpu['us_a_task']}\n{_range(cpu['all'])}",
            _said(cpu["cost_percent"]),
            str(row["exporting_us"]),
        )
    costs = Table("CPU µs a task", *(f"{row['share']:.0%}" for row in rows))
    for role in rows[0]["cpu_us_a_task"]:
        costs.add_row(role, *(str(row["cpu_us_a_task"][role]) for row in rows))
    Console(width=120).print(table, costs)


def _range(values: list[float]) -> str:
    return f"{min(values):,.0f} to {max(values):,.0f}"


def _said(cost: Mapping[str, float]) -> str:
    mean, error, median = (cost[name] for name in ("mean", "standard_error", "median"))
    return f"{mean:.1f} ± {error:.1f} %\nmedian {median:.1f} %"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--export", choices=("file", "otlp"), default="otlp")
    parser.add_argument("--client", default="")
    parser.add_argument("--collector", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.client:
        file = Path(arguments.client)
        print(json.dumps(uvloop.run(load(json.loads(file.read_text()), file.parent, arguments))))
    else:
        main(arguments)
