"""Three nats-servers that are one JetStream cluster, each on a host of its own."""

import asyncio
import json
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import nats
from nats.errors import Error as NatsError

from octarm.cli.stack import binaries
from octarm.cli.stack.children import Child, Command
from octarm.cli.stack.errors import StackError
from octarm.common.bus.connection import servers
from octarm.models.subjects import READY
from tests.chaos.faults import flip_a_bit
from tests.chaos.hosts import NODES, Hosts, address

CLUSTER: Final = "octarm-chaos"
UP_WITHIN_S: Final = 60.0
BREAK_S: Final = 20.0
URL: Final = ",".join(f"nats://{address(node)}:4222" for node in NODES)


class Cluster:
    """The nodes' servers; each can be killed, started again, cut off and plugged in."""

    def __init__(self, hosts: Hosts, data: Path) -> None:
        self.hosts = hosts
        self._data = data
        self._children: dict[int, Child] = {}

    async def start(self, node: int) -> None:
        """Start a node's server."""
        folder = self._data / f"nats-{node}"
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "nats.conf"
        config.write_text(self._config(node, folder), encoding="utf-8")
        program = str(binaries.find_nats_server().path)
        command = Command(
            argv=[*self.hosts.run_on(node), program, "-c", str(config)], log=folder / "nats.log"
        )
        self._children[node] = await Child.start(command)

    def _config(self, node: int, folder: Path) -> str:
        routes = [f"nats://{address(other)}:6222" for other in NODES if other != node]
        return (
            f'server_name: "n{node}"\nlisten: "{address(node)}:4222"\nmax_payload: 8388608\n'
            f'ping_interval: "2s"\nping_max: 2\n'
            f"jetstream {{ store_dir: {json.dumps(str(folder / 'store'))} }}\n"
            f'cluster {{ name: "{CLUSTER}", listen: "{address(node)}:6222",\n'
            f'  ping_interval: "2s", ping_max: 2, write_deadline: "2s",\n'
            f"  routes: {json.dumps(routes)} }}\n"
        )

    async def kill(self, node: int) -> None:
        """`kill -9` of a node's server."""
        self._children[node].kill()
        await self._children[node].wait()

    def flip_bits(self, node: int, chance: random.Random) -> int:
        """Flip one bit in each message block that a stopped node has; gives how many it had."""
        blocks = (self._data / f"nats-{node}").rglob("*.blk")
        return sum(flip_a_bit(block, chance) for block in blocks)

    async def stop(self) -> None:
        """End all servers."""
        for child in self._children.values():
            await child.stop(grace_s=5)

    async def leader(self) -> int:
        """The node that leads the stream READY."""
        connection = await nats.connect(servers(URL), connect_timeout=2, error_cb=_ignore)
        try:
            info = await connection.jetstream(timeout=5).stream_info(READY)
            assert info.cluster is not None
            return int(str(info.cluster.leader).removeprefix("n"))
        finally:
            await connection.close()

    async def ready(self) -> None:
        """Wait until JetStream has a leader.

        Raises:
            StackError: it has none in a minute.
        """
        until = asyncio.get_running_loop().time() + UP_WITHIN_S
        while asyncio.get_running_loop().time() < until:
            try:
                connection = await nats.connect(servers(URL), connect_timeout=2, error_cb=_ignore)
                try:
                    await connection.jetstream(timeout=2).account_info()
                    return
                finally:
                    await connection.close()
            except (NatsError, OSError, TimeoutError):
                await asyncio.sleep(0.3)
        raise StackError("the cluster has no leader")


async def _ignore(_: Exception) -> None:
    """A node that is down is what this is about."""


@asynccontextmanager
async def a_cluster(hosts: Hosts, data: Path) -> AsyncGenerator[Cluster, None]:
    """A cluster of three on these hosts."""
    cluster = Cluster(hosts, data)
    try:
        for node in NODES:
            await cluster.start(node)
        await cluster.ready()
        yield cluster
    finally:
        await cluster.stop()
