"""`python -m bench.tracing`: what tracing costs, all shares in the same run on the same machine.

For each share of sampled tasks a stack is started and measured, one after the other and in
several rounds, so that what else happens on the machine meets all of them. Spans go to files.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import uvloop
from rich.console import Console
from rich.table import Table

from bench.measure import settled, throughput
from octarm.cli.stack.supervisor import running_stack
from octarm.sdk import Client

SHARES: Final = (0.0, 0.01, 1.0)
WARM_UP: Final = 2_000
OUT: Final = Path(__file__).parent / "out" / "tracing.json"


async def measured(folder: Path, share: float, n: int) -> float:
    """Start a stack that samples `share` of its tasks; give its tasks a second."""
    noop = (sys.executable, "-m", "bench.noop_arm")
    env = {
        "OCTARM_TRACE_EXPORT": f"file:{folder / 'traces'}",
        "OCTARM_TRACE_SAMPLE": str(share),
        "OCTARM_LOG_LEVEL": "warning",
    }
    async with running_stack(folder, extra_arms={"noop": noop}, env=env) as stack:
        client = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bench.tracing", "--n", str(n), "--client", stack.urls.nats),
            stdout=subprocess.PIPE,
        )
        output, _ = await client.communicate()
    if client.returncode:
        raise SystemExit("the measurement failed; see above")
    return float(output)


async def load(nats_url: str, n: int) -> float:
    """Be the client: warm up, then send `n` tasks and await every result."""
    async with Client(nats_url) as client:
        await throughput(client, min(n, WARM_UP))
        await settled(client)
        return await throughput(client, n)


def spans_in(folder: Path) -> int:
    """Count what was exported: a run without spans would cost nothing and prove nothing."""
    files = (folder / "traces").glob("*.jsonl")
    return sum(path.read_bytes().count(b"\n") for path in files)


def main(given: argparse.Namespace) -> None:
    """Measure, write `bench/out/tracing.json`, show a table."""
    rates: dict[float, list[float]] = {share: [] for share in SHARES}
    spans = dict.fromkeys(SHARES, 0)
    for number in range(given.rounds):
        # Every other round the other way round: the machine may grow warmer, or emptier.
        for share in SHARES if number % 2 == 0 else reversed(SHARES):
            with tempfile.TemporaryDirectory(prefix="octarm-tracing-") as name:
                rates[share].append(asyncio.run(measured(Path(name), share, given.n)))
                spans[share] = spans_in(Path(name))
    base = statistics.median(rates[0.0])
    rows = [
        {
            "share": share,
            "tasks_per_s": round(statistics.median(found), 1),
            "cost_percent": round((1 - statistics.median(found) / base) * 100, 1),
            "all": [round(rate, 1) for rate in found],
            "spans": spans[share],
        }
        for share, found in rates.items()
    ]
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps({"n_tasks": given.n, "rows": rows}, indent=2) + "\n")
    show(rows)


def show(rows: list[dict[str, object]]) -> None:
    """Print the figures as a table."""
    table = Table("sampled", "tasks/s (median)", "cost %", "rounds", "spans", title="Tracing")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console().print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--client", default="")
    arguments = parser.parse_args()
    if arguments.client:
        print(uvloop.run(load(arguments.client, arguments.n)))
    else:
        main(arguments)
