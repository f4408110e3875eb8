"""The file of deploy/k8s/base/redis and the Secrets of secrets.sh, on a real redis-server."""

from collections.abc import AsyncGenerator, Mapping
from pathlib import Path

import pytest
import pytest_asyncio
from redis.exceptions import AuthenticationError, NoPermissionError

from octarm.cli.stack.binaries import find_redis_server
from octarm.cli.stack.children import Command
from octarm.cli.stack.ports import LOOPBACK, ask
from octarm.cli.stack.servers import Server
from octarm.common.storage import open_redis
from tests.support.manifests.cluster import K8S, lay_out, secrets

pytestmark = pytest.mark.integration


class _Recipe:
    name = "redis"

    def __init__(self, folder: Path, files: Mapping[str, str]) -> None:
        self._folder = folder
        self._files = files

    async def prepare(self, port: int) -> Command:
        lay_out(self._files, self._folder)
        text = (K8S / "base/redis/redis.conf").read_text()
        config = self._folder / "redis.conf"
        config.write_text(text.replace("/run/secrets/redis", str(self._folder)))
        argv = [str(find_redis_server().path), str(config), "--bind", LOOPBACK]
        argv += ["--port", str(port), "--dir", str(self._folder)]
        return Command(argv=argv, log=self._folder / "log")

    async def answers(self, port: int, pid: int) -> bool:
        await ask(port, b"PING\r\n", after=b"-NOAUTH")
        return True

    def url(self, port: int) -> str:
        return f"redis://{LOOPBACK}:{port}/0"


@pytest_asyncio.fixture
async def port(tmp_path: Path) -> AsyncGenerator[int, None]:
    server = Server(_Recipe(tmp_path, secrets()["octarm-redis"]))
    await server.start()
    try:
        yield server.port
    finally:
        await server.stop()


async def test_memory_sees_its_own_keys_and_a_stranger_none(port: int) -> None:
    given = secrets()["octarm-memory"]["octarm_redis_url"]
    url = given.replace("octarm-redis:6379", f"{LOOPBACK}:{port}")

    async with open_redis(url, timeout_s=30) as redis:
        assert await redis.set("octarm:memory:x", "1")
        with pytest.raises(NoPermissionError):
            await redis.get("octarm:gateway:x")
        with pytest.raises(NoPermissionError):
            await redis.flushall()
    async with open_redis(f"redis://{LOOPBACK}:{port}/0", timeout_s=30) as stranger:
        with pytest.raises(AuthenticationError):
            await stranger.get("octarm:memory:x")
