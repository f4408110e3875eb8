"""How the embedded nats-server is configured and recognised."""

import json
import os
import secrets
from pathlib import Path

from octarm.cli.stack import binaries
from octarm.cli.stack.children import Command
from octarm.cli.stack.ports import LOOPBACK, ask

MAX_PAYLOAD_BYTES = 8 * 1024 * 1024
# Go's collector waits until the heap has doubled; without a limit the server grew by 40 MiB and
# more a minute under load, most of it buffers of 256 KiB. And it shares the machine with Postgres
# and the fleet: on all processors, a quarter of its time is threads that look for work.
LIMITS = {"GOMEMLIMIT": "256MiB", "GOMAXPROCS": str(max(1, (os.cpu_count() or 1) // 4))}


class NatsRecipe:
    """nats-server with JetStream on and file storage; a new server name at every start."""

    name = "nats"

    def __init__(self, data: Path, *, sync_interval: str = "2m") -> None:
        self._data = data
        self._sync_interval = sync_interval
        self._server_name = ""

    async def prepare(self, port: int) -> Command:
        """Write the configuration file; see `Recipe.prepare`."""
        program = binaries.find_nats_server()
        self._server_name = f"octarm-{secrets.token_hex(8)}"
        store = self._data / "nats"
        store.mkdir(parents=True, exist_ok=True)
        config = self._data / "nats.conf"
        config.write_text(
            f'server_name: "{self._server_name}"\n'
            f'listen: "{LOOPBACK}:{port}"\n'
            f"max_payload: {MAX_PAYLOAD_BYTES}\n"
            f"jetstream {{\n"
            f"  store_dir: {json.dumps(str(store), ensure_ascii=False)}\n"
            f'  sync_interval: "{self._sync_interval}"\n'
            f"}}\n",
            encoding="utf-8",
        )
        return Command(
            argv=[str(program.path), "-c", str(config)],
            log=self._data / "logs" / "nats.log",
            env=LIMITS | os.environ,
        )

    async def answers(self, port: int, pid: int) -> bool:
        """Whether the greeting on `port` carries the name that we gave at this start."""
        greeting = json.loads(await ask(port, after=b"INFO "))
        return bool(greeting.get("server_name") == self._server_name)

    def url(self, port: int) -> str:
        """`nats://127.0.0.1:<port>`."""
        return f"nats://{LOOPBACK}:{port}"
