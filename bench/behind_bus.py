"""What one would write by hand where Redis is not every arm's: a service in between.

`python -m bench.behind_bus NATS REDIS` answers requests with nats-py and redis-py, one command of
Redis each, until it is ended. It shows what the hop over the bus costs with the usual clients.
"""

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import nats
import uvloop
from nats.aio.client import Client as NATS
from nats.aio.msg import Msg
from redis.asyncio import Redis

APPEND, READ, THERE = "bench.append", "bench.read", "bench.there"
# HSET and EXPIRE as one command, or there would be two round trips.
SCRIPT = """
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('EXPIRE', KEYS[1], 3600)
"""


async def serve(nats_url: str, redis_url: str) -> None:
    """Answer until the process is ended."""
    nc = await nats.connect(nats_url)
    async with Redis.from_url(redis_url) as redis:
        script = redis.register_script(SCRIPT)

        async def append(msg: Msg) -> None:
            key, field, text = msg.data.split(b" ", 2)
            await script([key], [field, text])
            await msg.respond(b"1")

        async def read(msg: Msg) -> None:
            found: dict[Any, Any] = await redis.hgetall(msg.data)
            await msg.respond(b"\n".join(found.values()))

        async def there(msg: Msg) -> None:
            await msg.respond(b"1")

        for subject, heard in ((APPEND, append), (READ, read), (THERE, there)):
            await nc.subscribe(subject, cb=heard)
        await asyncio.Event().wait()


@asynccontextmanager
async def behind_bus(nc: NATS, nats_url: str, redis_url: str) -> AsyncGenerator[None, None]:
    """Have such a service as a process of its own until the block ends."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.behind_bus", nats_url, redis_url)
    )
    try:
        for _ in range(200):
            try:
                await nc.request(THERE, timeout=1)
                break
            except nats.errors.Error:
                await asyncio.sleep(0.1)
        yield
    finally:
        child.terminate()
        await child.wait()


if __name__ == "__main__":
    uvloop.run(serve(*sys.argv[1:]))
