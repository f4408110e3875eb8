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
from bench.peers.harness import (
    NAMES,
    NOT_MEASURED,
    Servers,
    emptied,
    is_installed,
    measured,
    syncs,
)
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
    """Measure the peers of `names` (all when empty); names those that are not installed.

    Where every write is synced a fifth of `n` must do: there each task takes milliseconds.
    """
    found: Json = {"n": n, "figures": [], "missing": dict(NOT_MEASURED), "failed": {}}
    async with servers_in(folder) as servers:
        for name in names or NAMES:
            if not is_installed(name):
                found["missing"][name] = "not installed: uv sync --group peers"
                continue
            for fsync in await asyncio.to_thread(syncs, name, servers):
                print(f"measuring {name}, Redis syncs {fsync} …", file=sys.stderr, flush=True)
                tasks = n if fsync == "everysec" else max(n // 5, 1)
                try:
                    figure = await asyncio.to_thread(measured, name, servers, tasks, fsync)
                except RuntimeError as error:
                    found["failed"][f"{name}, {fsync}"] = str(error)
                    continue
                found["figures"].append(asdict(figure))
        await emptied(servers)
        found["bare_tasks_per_s"] = round(await bare.run(servers.nats, n), 1)
    return found


def show(found: Json, ours: float, bare_rate: float) -> None:
    """Print the peers, fastest first; `ours` and `bare_rate` are tasks a second of this run."""
    table = Table(
        *("peer", "durable", "tasks/s", "Octarm is × faster", "of the bare pipeline"),
        *("setting", "conditions"),
        title=f"Peers, {found['n']} no-op tasks, every result awaited",
        caption="durable: a task is on the disk before it is said to be accepted, as with Octarm",
    )
    for figure in sorted(found["figures"], key=lambda figure: -figure["tasks_per_s"]):
        rate = figure["tasks_per_s"]
        durable = "yes" if figure["durable"] else "no"
        ratios = (f"{ours / rate:.2f}", f"{rate / bare_rate:.3f}")
        said = (figure["setting"], figure["conditions"])
        table.add_row(figure["peer"], durable, f"{rate:,.0f}", *ratios, *said)
    console = Console(width=180)
    console.print(table)
    for why in ("failed", "missing"):
        for name, reason in found[why].items():
            console.print(f"{why}: {name}: {reason}", markup=False)
    console.print(f"bare pipeline after the peers: {found['bare_tasks_per_s']:,} tasks/s")
