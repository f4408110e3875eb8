"""The Redis user of the memory service: all that it needs, and nothing else."""

from collections.abc import AsyncGenerator
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from octarm.common.storage import open_redis
from octarm.memory.storage.front import RedisFront
from tests.contract.test_episode_front import CountingEpochs, FrontContract
from tests.support.sources import ROOT

FILE = ROOT / "deploy" / "redis" / "memory.acl"
PASSWORD = "only-of-this-test"

pytestmark = pytest.mark.integration


async def told(redis: Any, *command: str) -> Any:
    """Send a command as it is; the client's own method for that has no types."""
    return await redis.execute_command(*command)


@pytest_asyncio.fixture
async def walled(redis_url: str) -> AsyncGenerator[Redis, None]:
    """Redis as the user of the file sees it."""
    _, name, *rules = FILE.read_text(encoding="utf-8").split()
    async with open_redis(redis_url, timeout_s=30) as admin:
        await told(admin, "ACL", "SETUSER", name, "reset", *rules, f">{PASSWORD}")
        url = urlsplit(redis_url)
        host = url.netloc.rpartition("@")[2]
        own = url._replace(netloc=f"{name}:{PASSWORD}@{host}").geturl()
        async with open_redis(own, timeout_s=30) as redis:
            yield redis
        await told(admin, "ACL", "DELUSER", name)


class TestWalledFront(FrontContract):
    """It does all its work as that user."""

    @pytest_asyncio.fixture
    async def front(self, walled: Redis) -> RedisFront:
        front = RedisFront(walled, CountingEpochs(), ttl_s=3600)
        assert await front.gate.open()
        return front


@pytest.mark.parametrize(
    "command",
    [
        "GET octarm:gateway:limit:acme",
        "SET octarm:memo x",
        "KEYS *",
        "SCAN 0",
        "FLUSHALL",
        "CONFIG GET *",
        "ACL LIST",
        "SCRIPT FLUSH",
        "PUBLISH octarm:memory:x y",
        "DEBUG SLEEP 0",
        "SWAPDB 0 1",
    ],
)
async def test_may_do_nothing_else(walled: Redis, command: str) -> None:
    with pytest.raises(NoPermissionError):
        await told(walled, *command.split())


async def test_not_even_in_a_script(walled: Redis) -> None:
    with pytest.raises(NoPermissionError):
        await walled.eval("return redis.call('GET', KEYS[1])", 1, "octarm:gateway:limit:acme")
