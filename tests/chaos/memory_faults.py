"""What the chaos driver does to memory, while episodes are written and read."""

import asyncio
import signal
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import nats
import psutil
from nats.aio.client import Client as NATS
from redis.asyncio import Redis

from octarm.clients.episodes import Writers
from octarm.clients.memory import MemoryClient
from octarm.clients.upkeep import UpkeepClient
from octarm.common.failpoints import Name
from octarm.models.erasure import Subject
from octarm.models.errors import NotFound
from octarm.models.ids import new_id
from octarm.models.semantic import MemoryFilter
from octarm.sdk.recall import Recall
from tests.chaos.diary import TENANT
from tests.chaos.faults import Plan, Storm, killing, redis_flush
from tests.support.diarist import a_diarist
from tests.support.wait import wait_until

FROZEN_S: Final = 30.0
FULL_S: Final = 10.0
ERASED_WITHIN_S: Final = 60.0
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


async def kill_arms(storm: Storm) -> None:
    """`kill -9` of an arm that writes fast, again and again; each may lose its window."""
    assert storm.diary is not None
    urls = storm.stage.stack.urls
    until = time.monotonic() + storm.seconds
    nc = await nats.connect(urls.nats)
    try:
        while time.monotonic() < until:
            async with a_diarist(urls.nats) as diarist:
                async with storm.wind.fault("kill -9 of an arm that writes fast"):
                    acked = await diarist.killed_after(storm.chance.randint(60, 200))
                found = await MemoryClient(nc, timeout_s=10).get_episode(
                    diarist.tenant, diarist.episode_id
                )
            storm.diary.arm_died(diarist.episode_id, acked, found)
    finally:
        await nc.close()


async def erase_people(storm: Storm) -> None:
    """All about a person is erased, again and again, while an arm still writes about another."""
    assert storm.diary is not None
    nc = await nats.connect(storm.stage.stack.urls.nats)
    until, number = time.monotonic() + storm.seconds, 0
    try:
        while time.monotonic() < until:
            number += 1
            async with storm.wind.fault(f"erase person:{number}"):
                await _erase_one(storm, nc, f"person:p{number}")
    finally:
        await nc.close()


async def _erase_one(storm: Storm, nc: NATS, tag: str) -> None:
    diary = storm.diary
    assert diary is not None
    memory = Recall(
        MemoryClient(nc, timeout_s=10), TENANT, "gossip", Writers(nc).of(TENANT), new_id("tsk")
    )
    episode = await memory.open(tags=[tag], durability="fast")
    for number in range(20):
        await episode.observe({"about": tag, "number": number})
    await memory.remember(f"{tag} drinks tea", tags=[tag])
    await episode.flush()
    upkeep, subject = UpkeepClient(nc, timeout_s=10), Subject(tag=tag)
    receipt = (await upkeep.erase(TENANT, subject)).erasure_id
    until = time.monotonic() + ERASED_WITHIN_S
    while (await upkeep.erasure(TENANT, receipt)).state != "done":
        if time.monotonic() > until:
            diary.breaks.append(f"{tag} is not erased after {ERASED_WITHIN_S:.0f} s")
            return
        await asyncio.sleep(0.1)
    diary.erased.append(tag)
    with suppress(NotFound):
        await memory.episode(episode.episode_id)
        diary.breaks.append(f"{tag}: the episode is still there")
    if await memory.recall(f"{tag} drinks tea", only=MemoryFilter(tags=[tag])):
        diary.breaks.append(f"{tag}: a memory is still there")


def _is_gone(file: Path) -> bool:
    return not file.exists()


MEMORY_PLANS: Final[dict[str, Plan]] = {
    "episodes-kill-redis": Plan(scenario=killing("redis"), diary=True),
    "episodes-flush-redis": Plan(scenario=redis_flush, diary=True),
    "episodes-freeze-redis": Plan(scenario=freeze_redis, diary=True),
    "episodes-fill-redis": Plan(scenario=fill_redis, diary=True),
    "episodes-kill-postgres": Plan(scenario=killing("postgres"), diary=True),
    "episodes-kill-arm": Plan(scenario=kill_arms, diary=True),
    "episodes-erase": Plan(scenario=erase_people, diary=True),
    "episodes-kill-memory": Plan(scenario=kill_memory, diary=True, recovers_within_s=40.0),
}
