"""How the embedded redis-server is configured and recognised."""

from pathlib import Path

from octarm.cli.stack import binaries
from octarm.cli.stack.children import Command
from octarm.cli.stack.ports import LOOPBACK, ask


class RedisRecipe:
    """redis-server without persistence: its loss is a slower answer, nothing more."""

    name = "redis"

    def __init__(self, data: Path) -> None:
        self._data = data

    async def prepare(self, port: int) -> Command:
        """See `Recipe.prepare`."""
        program = binaries.find_redis_server()
        folder = self._data / "redis"
        folder.mkdir(parents=True, exist_ok=True)
        options = {
            "bind": LOOPBACK,
            "port": str(port),
            "dir": str(folder),
            "save": "",
            "appendonly": "no",
            # A cache: what has a time to live gives way, the least recently used first.
            "maxmemory": "128mb",
            "maxmemory-policy": "volatile-lru",
            "daemonize": "no",
        }
        flags = [part for key, value in options.items() for part in (f"--{key}", value)]
        return Command(argv=[str(program.path), *flags], log=self._data / "logs" / "redis.log")

    async def answers(self, port: int, pid: int) -> bool:
        """Whether the server on `port` says that it is the process `pid`."""
        return int(await ask(port, b"INFO server\r\n", after=b"process_id:")) == pid

    def url(self, port: int) -> str:
        """`redis://127.0.0.1:<port>/0`."""
        return f"redis://{LOOPBACK}:{port}/0"
