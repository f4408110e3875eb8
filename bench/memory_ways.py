"""The ways to keep an episode that `bench.memory` compares: ours, and what one writes by hand."""

import itertools
import json
from collections.abc import Awaitable, Callable
from typing import Final

import psycopg
from nats.aio.client import Client as NATS
from pydantic import JsonValue
from redis.asyncio import Redis

from bench.behind_bus import APPEND, READ, THERE
from octarm.common.bus.requests import ask_raw
from octarm.models.episodes import Durability
from octarm.sdk.episodes import OpenEpisode
from octarm.sdk.recall import Recall

BODY: Final[JsonValue] = {"saw": "README.md has 80 lines", "tool": "read", "took_ms": 12}
TEXT: Final = json.dumps(BODY)
TTL_S: Final = 3600
ONE_EPISODE: Final = 500

Call = Callable[[int], Awaitable[object]]


class Plain:
    """What one would write by hand on Redis alone."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._numbers = itertools.count()

    async def append(self, number: int) -> None:
        """Add an entry to an episode."""
        key = f"bench:{number // ONE_EPISODE}"
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(key, str(next(self._numbers)), TEXT)
            pipe.expire(key, TTL_S)
            await pipe.execute()

    async def read(self, _: int) -> None:
        """Read an episode."""
        await self._redis.hgetall("bench:read")


class PlainSql:
    """What one would write by hand on Postgres alone: a row, committed and on the disk."""

    def __init__(self, connection: psycopg.AsyncConnection) -> None:
        self._connection = connection
        self._numbers = itertools.count()

    async def create(self) -> None:
        """Make the table.

        Raises:
            RuntimeError: a commit would not wait for the disk.
        """
        await self._connection.execute("set synchronous_commit = on")
        row = await (await self._connection.execute("show fsync")).fetchone()
        if row != ("on",):
            raise RuntimeError("Postgres does not wait for the disk: nothing to compare with")
        await self._connection.execute(
            "create table if not exists bench_entry (episode text, entry text, body jsonb,"
            " primary key (episode, entry))"
        )

    async def append(self, number: int) -> None:
        """Add an entry to an episode."""
        await self._connection.execute(
            "insert into bench_entry values (%s, %s, %s)",
            (f"epi_{number // ONE_EPISODE}", str(next(self._numbers)), TEXT),
        )


class Ours:
    """The same through `ctx.memory`."""

    def __init__(self, memory: Recall) -> None:
        self._memory = memory
        self._episodes: list[OpenEpisode] = []

    async def open(self, entries: int) -> None:
        """Open episodes for so many entries."""
        count = entries // ONE_EPISODE + 1
        self._episodes = [await self._memory.open() for _ in range(count)]

    def appending(self, durability: Durability) -> Call:
        """Give the way to add entries."""

        async def append(number: int) -> None:
            await self._episodes[number // ONE_EPISODE].observe(BODY, durability=durability)

        return append

    async def append_and_flush(self, number: int) -> None:
        """Add an entry fast, and wait until the memory service has it."""
        episode = self._episodes[number // ONE_EPISODE]
        await episode.observe(BODY, durability="fast")
        await episode.flush()

    async def flush(self) -> None:
        """Wait until the memory service has all."""
        await self._memory.behind.flushed()

    async def read(self, _: int) -> None:
        """Read an episode, which must come from Redis."""
        found = await self._memory.episode(self._episodes[0].episode_id)
        if found.source != "redis":
            raise RuntimeError(f"read from {found.source}")


class Behind:
    """The same by hand with a service between: nats-py's request, one command of redis-py."""

    def __init__(self, nc: NATS) -> None:
        self._nc = nc
        self._numbers = itertools.count()

    async def append(self, number: int) -> None:
        """Add an entry to an episode."""
        words = f"bench:behind:{number // ONE_EPISODE} {next(self._numbers)} {TEXT}"
        await self._nc.request(APPEND, words.encode(), timeout=5)

    async def read(self, _: int) -> None:
        """Read an episode."""
        await self._nc.request(READ, b"bench:read", timeout=5)

    async def nothing(self, _: int) -> None:
        """Ask for nothing, as our clients ask: what the hop alone takes."""
        await ask_raw(self._nc, THERE, b"")
