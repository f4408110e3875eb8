"""What memory costs as it grows: `python -m bench.memory_curve [--rows 1000000]`.

For 1,000 rows, ten times as many, … up to `--rows` it measures a lone append, a hot read, one from
Postgres with so many entries of other episodes in its table, and searches over so many memories.
It prints a line of JSON for each, and draws `bench/plots/memory.png` (`uv sync --group bench`).
A million takes half an hour or more on two cores, most of it for the index of vectors.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final

import nats
import psycopg
import uvloop
from redis.asyncio import Redis

from bench.client import figures_of
from bench.memory import ENV, by_turns
from bench.memory_search import run as search
from bench.memory_ways import Call, Ours
from octarm.cli.stack.supervisor import running_stack
from octarm.clients.episodes import Writers
from octarm.clients.memory import MemoryClient
from octarm.models.ids import new_id
from octarm.sdk.recall import Recall

PLOT: Final = Path(__file__).parent / "plots" / "memory.png"
CALLS: Final = 300
ENTRIES: Final = 100
GROW: Final = """
with base as (
    insert into memory.episode (tenant, episode_id, arm_id, created_at, body, task_id)
    select 'default', 'epi_0' || lpad(n::text, 25, '0'), 'bench', now(),
        json_build_object('episode_id', 'epi_0' || lpad(n::text, 25, '0'), 'tenant', 'default',
            'arm_id', 'bench', 'task_id', 'tsk_' || repeat('0', 26), 'created_at', now(),
            'ttl_seconds', 3600), 'tsk_' || repeat('0', 26)
    from generate_series(%(since)s::int, %(until)s::int - 1) n
    returning tenant, episode_id
)
insert into memory.episode_entry (tenant, episode_id, entry_id, seq, kind, body)
select tenant, episode_id, 'e' || n, n, 'observation', '{"saw": "README.md", "took_ms": 12}'
from base, generate_series(1, %(entries)s) n
"""
PANELS: Final = (
    (
        "Lone requests, p50",
        ("append fast, flushed", "append durable", "hot read", "read from Postgres"),
    ),
    ("Search, p50 and p95", ("search p50", "search p95")),
)


def sizes(rows: int) -> list[int]:
    """Give 1,000, 10,000, … below `rows`, and `rows`."""
    return [*(10**power for power in range(3, 7) if 10**power < rows), rows]


def grow(postgres_url: str, since: int, until: int) -> None:
    """Add episodes of a hundred entries, until the table has `until` entries of them."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(
            GROW, {"since": since // ENTRIES, "until": until // ENTRIES, "entries": ENTRIES}
        )
        connection.execute("vacuum analyze memory.episode, memory.episode_entry")


async def episodes(urls: list[str], rows: list[int]) -> list[dict[str, float]]:
    """Measure lone requests with ever more rows in Postgres."""
    nats_url, redis_url, postgres_url = urls
    nc = await nats.connect(nats_url)
    memory = Recall(MemoryClient(nc), "default", "bench", Writers(nc).of("default"), new_id("tsk"))
    found, before = [], 0
    async with Redis.from_url(redis_url) as redis:
        for number in rows:
            await asyncio.to_thread(grow, postgres_url, before, number)
            before = number
            found.append({"rows": number, **await lone(memory, redis)})
    await nc.close()
    return found


async def lone(memory: Recall, redis: Redis) -> dict[str, float]:
    """Measure one request after the other; gives medians in milliseconds."""
    ours = Ours(memory)
    await ours.open(2 * CALLS)
    some = Ours(memory)
    await some.open(1)
    for number in range(10):
        await some.appending("durable")(number)

    async def cold(number: int) -> None:
        key = f"octarm:memory:episode:default:epi_0{number % 10:025d}"
        await redis.delete(key)
        await memory.episode(key.rpartition(":")[2])

    ways: dict[str, Call] = {
        "append fast, flushed": ours.append_and_flush,
        "append durable": ours.appending("durable"),
        "hot read": some.read,
        "read from Postgres": cold,
    }
    await by_turns(ways, 20)
    took = await by_turns(ways, CALLS)
    return {name: round(statistics.median(times), 3) for name, times in took.items()}


async def with_a_stack(rows: int) -> list[dict[str, float]]:
    """Start a stack and a client of its own that measures episodes in it."""
    with tempfile.TemporaryDirectory(prefix="octarm-curve-") as folder:
        async with running_stack(Path(folder), env=ENV) as stack:
            urls = stack.urls
            found: list[dict[str, float]] = await figures_of(
                "bench.memory_curve",
                *("--rows", str(rows), "--urls", urls.nats, urls.redis, urls.postgres),
            )
    return found


def draw(points: list[dict[str, Any]], to: Path = PLOT) -> None:
    """Draw the medians over the number of rows."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.4, 4.2), layout="constrained")
    panels = figure.subplots(1, len(PANELS), squeeze=False)[0]
    for panel, (title, lines) in zip(panels, PANELS, strict=True):
        for line in lines:
            some = [point for point in points if line in point]
            rows = [point["rows"] for point in some]
            panel.plot(rows, [point[line] for point in some], "o-", label=line)
        panel.set_xscale("log")
        panel.set_ylim(bottom=0)
        panel.set_xlabel("rows")
        panel.set_ylabel("milliseconds")
        panel.set_title(title)
        panel.grid(alpha=0.3)
        panel.legend()
    to.parent.mkdir(exist_ok=True)
    figure.savefig(to, dpi=110)


async def curve(rows: int, queries: int) -> None:
    """Measure both memories, print and draw."""
    points: list[dict[str, Any]] = list(await with_a_stack(rows))
    print(json.dumps(points), flush=True)
    draw(points)
    async with aclosing(search(sizes(rows), queries)) as found:
        async for figures in found:
            p50, p95 = (figures["ours"][name] for name in ("p50_ms", "p95_ms"))
            points.append({"rows": figures["rows"], "search p50": p50, "search p95": p95})
            # The next size may take half an hour: what is known is drawn now.
            draw(points)


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--urls", nargs=3, metavar=("NATS", "REDIS", "POSTGRES"))
    given = parser.parse_args()
    if given.urls:
        print(json.dumps(uvloop.run(episodes(given.urls, sizes(given.rows)))))
    else:
        asyncio.run(curve(given.rows, given.queries))


if __name__ == "__main__":
    main()
