"""All peers, one after another, on the servers that the embedded stack uses."""

import asyncio
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import bare
from bench.peers.harness import NAMES, NOT_MEASURED, Servers, emptied, is_installed, measured
from octarm.cli.stack.servers import nats_server, postgres_server, redis_server

Json = dict[str, Any]


@asynccontextmanager
async def servers_in(folder: Path) -> AsyncGenerator[Servers, None]:
    """Start NATS, Redis and Postgres as `octarm up` does, without services."""
    started = [make(folder) for make in (nats_server, redis_server, postgres_server)]
    try:
        for server in started:
            await server.start()
        yield Servers(*(server.url for server in started))
    finally:
        for server in reversed(started):
            await server.stop()


async def session(folder: Path, names: Sequence[str], n: int) -> Json:
    """Measure the peers of `names` (all when empty); names those that are not installed."""
    found: Json = {"n": n, "figures": [], "missing": dict(NOT_MEASURED), "failed": {}}
    async with servers_in(folder) as servers:
        for name in names or NAMES:
            if not is_installed(name):
                found["missing"][name] = "not installed: uv sync --group peers"
                continue
            print(f"measuring {name} …", file=sys.stderr, flush=True)
            try:
                figure = await asyncio.to_thread(measured, name, servers, n)
            except RuntimeError as error:
                found["failed"][name] = str(error)
                continue
            found["figures"].append(asdict(figure))
        await emptied(servers)
        found["bare_tasks_per_s"] = round(await bare.run(servers.nats, n), 1)
    return found


def show(found: Json, ours: float, bare_rate: float) -> None:
    """Print the peers, fastest first; `ours` and `bare_rate` are tasks a second of this run."""
    table = Table(
        *("peer", "tasks/s", "Octarm is × faster", "of the bare pipeline", "setting", "conditions"),
        title=f"Peers, {found['n']} no-op tasks, every result awaited",
    )
    for figure in sorted(found["figures"], key=lambda figure: -figure["tasks_per_s"]):
        rate = figure["tasks_per_s"]
        ratios = (f"{ours / rate:.2f}", f"{rate / bare_rate:.3f}")
        table.add_row(
            figure["peer"], f"{rate:,.0f}", *ratios, figure["setting"], figure["conditions"]
        )
    console = Console(width=180)
    console.print(table)
    for why in ("failed", "missing"):
        for name, reason in found[why].items():
            console.print(f"{why}: {name}: {reason}", markup=False)
    console.print(f"bare pipeline after the peers: {found['bare_tasks_per_s']:,} tasks/s")
