"""The memory service in the process of a test, on real NATS, Postgres and Redis."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import nats
from nats.aio.client import Client as NATS
from pydantic import SecretStr

from octarm.clients.upkeep import UpkeepClient
from octarm.common.bus.topology import MEMORY_WRITES, provision
from octarm.common.storage.migrations import upgrade
from octarm.memory.__main__ import main
from octarm.memory.schema import MIGRATIONS, SCHEMA
from octarm.memory.settings import Settings
from octarm.models.errors import OctarmError
from octarm.models.subjects import EPISODES
from tests.support.wait import wait_until


@asynccontextmanager
async def a_provisioned_bus(nats_url: str) -> AsyncGenerator[NATS, None]:
    """A connection to a bus with all its streams."""
    connection = await nats.connect(nats_url)
    await provision(connection.jetstream())
    yield connection
    await connection.close()


def memory_settings(nats_url: str, postgres_url: str, redis_url: str) -> Settings:
    """Settings on a database that is migrated."""
    upgrade(postgres_url, MIGRATIONS, SCHEMA)
    return Settings(
        nats_url=nats_url, postgres_url=SecretStr(postgres_url), redis_url=SecretStr(redis_url)
    )


@asynccontextmanager
async def a_memory(settings: Settings, bus: NATS) -> AsyncGenerator[UpkeepClient, None]:
    """A memory service in this process, once it answers."""
    stop = asyncio.Event()
    running = asyncio.create_task(main(settings, stop))

    async def answers() -> bool:
        if running.done():
            await running
        try:
            await UpkeepClient(bus, timeout_s=1).count("nobody")
        except OctarmError:
            return False
        return True

    try:
        await wait_until(answers, 60)
        yield UpkeepClient(bus, timeout_s=20)
    finally:
        stop.set()
        await running


async def drained(bus: NATS) -> bool:
    """Tell whether all that is durable of episodes is in Postgres, not only in the stream."""
    info = await bus.jetstream().consumer_info(EPISODES, MEMORY_WRITES)
    return not info.num_pending and not info.num_ack_pending
