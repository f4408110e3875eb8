"""Episodes beside plain redis-py doing the same, on the same servers in the same run.

`python -m bench.memory` starts the whole stack in a folder of its own and prints a table. An append
is what an arm does with `ctx.memory`: over the bus, into Redis, and for good through the stream.
A fast one is answered when the SDK has taken it, `fast, flushed` when the memory service has.
The plain one is `HSET` and `EXPIRE` in one transaction, the plain read `HGETALL`; plain SQL is an
`insert` and its commit. Another one does the plain thing behind the bus, with the usual clients:
what the hop costs by itself.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import nats
import psycopg
import uvloop
from msgspec import Raw
from nats.aio.client import Client as NATS
from redis.asyncio import Redis
from rich.console import Console
from rich.table import Table

from bench.behind_bus import behind_bus
from bench.client import figures_of
from bench.memory_ways import ONE_EPISODE, TEXT, Behind, Call, Ours, Plain, PlainSql
from octarm.cli.stack.supervisor import running_stack
from octarm.clients.episodes import Writers
from octarm.clients.memory import MemoryClient
from octarm.common.bus.publisher import Outgoing, Publisher
from octarm.memory.domain.entries import encode
from octarm.models.episodes import MAX_WRITES
from octarm.models.errors import OctarmError
from octarm.models.hot_episodes import KeepWrites, KeptWrite
from octarm.models.ids import new_id
from octarm.models.subjects import KEEP_WRITES
from octarm.sdk.recall import Recall

ENV: Final = {"OCTARM_TRACE_SAMPLE": "0", "OCTARM_LOG_LEVEL": "error"}
TOGETHER: Final = 64
ROUNDS: Final = 10
GIVE_UP_S: Final = 120.0

Ways = Mapping[str, Call]
Pause = Callable[[], Awaitable[object]]
Figures = dict[str, float]


async def nothing() -> None:
    """Take no pause."""


async def by_turns(
    calls: Mapping[str, Call], n: int, *, between: Pause = nothing
) -> dict[str, list[float]]:
    """Call each `n` times one after the other, in ten rounds, so that a slow hour hits all alike.

    After each call `between` is awaited, and not measured. Gives milliseconds.
    """
    took: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(ROUNDS):
        for name, call in calls.items():
            for number in range(turn * n // ROUNDS, (turn + 1) * n // ROUNDS):
                began = time.perf_counter()
                await call(number)
                took[name].append((time.perf_counter() - began) * 1000)
                await between()
    return took


def alone(took: Mapping[str, list[float]], first: str) -> Figures:
    """Give the medians, and how they stand to that of `first`."""
    medians = {name: statistics.median(some) for name, some in took.items()}
    figures = {f"{name}, alone, p50 ms": median for name, median in medians.items()}
    return figures | {
        f"{name}, alone, to plain": median / medians[first]
        for name, median in medians.items()
        if name != first
    }


async def together(
    call: Call, n: int, width: int, *, last: Pause = nothing
) -> tuple[list[float], float]:
    """Call with `width` callers at a time; gives milliseconds, and calls per second.

    The seconds are over when `last` is.
    """
    numbers = iter(range(n))
    took: list[float] = []

    async def caller() -> None:
        for number in numbers:
            began = time.perf_counter()
            await call(number)
            took.append((time.perf_counter() - began) * 1000)

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(width)))
    await last()
    return took, n / (time.perf_counter() - began)


async def lone_appends(ways: Ways, ours: Ours, n: int) -> Figures:
    """Compare appends one by one, each begun when the one before is through."""
    await ours.open(n)
    took = await by_turns(ways, n, between=ours.flush)
    durable, sql = (statistics.median(took[name]) for name in ("append durable", "append SQL"))
    return alone(took, "append plain") | {"append durable, alone, to SQL": durable / sql}


async def appends(ways: Ways, ours: Ours, n: int) -> Figures:
    """Compare appends, many at a time; what was taken must be flushed before the time is over."""
    figures = {}
    for name, call in ways.items():
        await ours.open(n)
        some, rate = await together(call, n, TOGETHER, last=ours.flush)
        figures[f"{name}, {TOGETHER} at a time, p50 ms"] = statistics.median(some)
        figures[f"{name}, {TOGETHER} at a time, p99 ms"] = statistics.quantiles(some, n=100)[98]
        figures[f"{name}, {TOGETHER} at a time, per s"] = rate
    for name in ("append fast", "append durable"):
        await ours.open(2 * n)
        width = MAX_WRITES * 4
        _, rate = await together(ways[name], 2 * n, width, last=ours.flush)
        figures[f"{name}, {width} at a time, per s"] = rate
    return figures


async def reads(redis: Redis, plain: Plain, behind: Behind, ours: Ours, n: int) -> Figures:
    """Compare reads of an episode of ten entries."""
    await redis.hset("bench:read", mapping={str(one): TEXT for one in range(12)})
    await ours.open(1)
    append = ours.appending("durable")
    for _ in range(10):
        await append(0)
    ways: dict[str, Call] = {"hot read plain": plain.read, "hot read": ours.read}
    others: dict[str, Call] = {
        "hot read plain behind the bus": behind.read,
        "nothing behind the bus": behind.nothing,
    }
    took = await by_turns(ways | others, n)
    figures = alone(took, "hot read plain")
    for name, call in ways.items():
        some, rate = await together(call, n, TOGETHER)
        figures[f"{name}, {TOGETHER} at a time, p50 ms"] = statistics.median(some)
        figures[f"{name}, {TOGETHER} at a time, per s"] = rate
    return figures


async def writer(nc: NATS, postgres_url: str, rows: int) -> Figures:
    """Hand many writes to the stream, and wait until Postgres has them."""
    publisher = Publisher(nc)
    episode_ids = [new_id("epi") for _ in range(rows // ONE_EPISODE)]
    writes = [
        KeptWrite("bench", episode_id, str(n), "observation", seq=n, body=Raw(TEXT.encode()))
        for episode_id in episode_ids
        for n in range(ONE_EPISODE)
    ]
    messages = [
        Outgoing(KEEP_WRITES.at(), encode(KeepWrites(writes[at : at + MAX_WRITES])), f"b:{at}")
        for at in range(0, len(writes), MAX_WRITES)
    ]
    began = time.perf_counter()
    for answer in await publisher.publish_many(messages):
        if isinstance(answer, OctarmError):
            raise answer
    async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as connection:
        query = "select count(*) from memory.episode_entry where tenant = 'bench'"
        while time.perf_counter() - began < GIVE_UP_S:
            row = await (await connection.execute(query)).fetchone()
            if row is not None and row[0] == len(writes):
                break
            await asyncio.sleep(0.05)
    await publisher.close()
    return {"durable writer, rows per s": len(writes) / (time.perf_counter() - began)}


async def measured(urls: Sequence[str], n: int) -> Figures:
    """Measure a running stack, whose NATS, Redis and Postgres are given."""
    nats_url, redis_url, postgres_url = urls
    nc = await nats.connect(nats_url)
    memory = Recall(MemoryClient(nc), "default", "bench", Writers(nc).of("default"), new_id("tsk"))
    async with (
        Redis.from_url(redis_url) as redis,
        behind_bus(nc, nats_url, redis_url),
        await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as connection,
    ):
        plain, behind, sql, ours = Plain(redis), Behind(nc), PlainSql(connection), Ours(memory)
        await sql.create()
        await by_turns({"warm": plain.append}, 100)
        ways: dict[str, Call] = {
            "append plain": plain.append,
            "append fast": ours.appending("fast"),
            "append durable": ours.appending("durable"),
        }
        others: dict[str, Call] = {
            "append fast, flushed": ours.append_and_flush,
            "append SQL": sql.append,
            "append plain behind the bus": behind.append,
        }
        figures = await lone_appends(ways | others, ours, n // 5)
        figures |= await appends(ways, ours, n)
        figures |= await reads(redis, plain, behind, ours, n // 5)
    figures |= await writer(nc, postgres_url, 5 * n)
    await nc.close()
    return figures


async def with_a_stack(folder: Path, n: int) -> Figures:
    """Start the stack in `folder`, and a client of its own that measures it."""
    async with running_stack(folder, env=ENV) as stack:
        urls = stack.urls
        figures: Figures = await figures_of(
            "bench.memory", "--n", str(n), "--urls", urls.nats, urls.redis, urls.postgres
        )
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=10_000, help="appends of each kind")
    parser.add_argument(
        "--urls", nargs=3, metavar=("NATS", "REDIS", "POSTGRES"), help="of a running stack"
    )
    given = parser.parse_args()
    if given.urls:
        print(json.dumps(uvloop.run(measured(given.urls, given.n))))
        return
    with tempfile.TemporaryDirectory(prefix="octarm-memory-") as folder:
        figures = asyncio.run(with_a_stack(Path(folder), given.n))
    table = Table("figure", "value", title="Episodes")
    for name, value in figures.items():
        table.add_row(name, f"{value:,.3f}" if value < 100 else f"{value:,.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
