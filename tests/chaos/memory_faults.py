"""What the chaos driver does to memory, while episodes are written and read."""

import asyncio
import signal
import time
from functools import partial
from pathlib import Path
from typing import Final

import psutil
from redis.asyncio import Redis

from octarm.common.failpoints import Name
from tests.chaos.faults import Plan, Storm, killing, redis_flush
from tests.support.wait import wait_until

FROZEN_S: Final = 30.0
FULL_S: Final = 10.0
STEPS: Final[tuple[Name, ...]] = (
    "episode_in_front",
    "episode_in_stream",
    "episode_before_commit",
    "episode_before_ack",
    "memory_before_ack",
)


async def freeze_redis(storm: Storm) -> None:
    """SIGSTOP of Redis for half a minute."""
    redis = psutil.Process(storm.stage.stack.pids()["redis"])
    async with storm.wind.fault(f"SIGSTOP redis for {FROZEN_S:.0f} s"):
        redis.suspend()
        try:
            await asyncio.sleep(FROZEN_S)
        finally:
            redis.resume()
    await asyncio.sleep(5)


async def fill_redis(storm: Storm) -> None:
    """Redis takes nothing more for ten seconds, first refusing, then evicting."""
    async with Redis.from_url(storm.stage.stack.urls.redis) as redis:
        for policy in ("noeviction", "allkeys-lru"):
            await redis.config_set("maxmemory-policy", policy)
            async with storm.wind.fault(f"redis is full: {policy}"):
                await redis.config_set("maxmemory", 1)
                await asyncio.sleep(FULL_S)
                await redis.config_set("maxmemory", "128mb")
            await asyncio.sleep(3)


async def kill_memory(storm: Storm) -> None:
    """`kill -9` of the memory service, wherever it is, and at each step of a write."""
    stage = storm.stage
    for step in (None, *STEPS):
        async with storm.wind.fault(f"kill -9 memory at {step or 'any time'}"):
            if step is None:
                stage.signal("memory", signal.SIGKILL)
            else:
                file = stage.arm("memory", step, "exit@5")
                await wait_until(partial(_is_gone, file), 30)
            if storm.diary is not None:
                storm.diary.deaths.append(time.monotonic())
        await asyncio.sleep(3)
        await stage.all_ready()


def _is_gone(file: Path) -> bool:
    return not file.exists()


MEMORY_PLANS: Final[dict[str, Plan]] = {
    "episodes-kill-redis": Plan(scenario=killing("redis"), diary=True),
    "episodes-flush-redis": Plan(scenario=redis_flush, diary=True),
    "episodes-freeze-redis": Plan(scenario=freeze_redis, diary=True),
    "episodes-fill-redis": Plan(scenario=fill_redis, diary=True),
    "episodes-kill-postgres": Plan(scenario=killing("postgres"), diary=True),
    "episodes-kill-memory": Plan(scenario=kill_memory, diary=True, recovers_within_s=40.0),
}
