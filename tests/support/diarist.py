"""An arm that writes an episode, mostly fast, in a process of its own that is killed.

`python -m tests.support.diarist NATS_URL` prints the episode's id, then each entry once it is
acknowledged: its number, and `waiting` or `kept`.
"""

import asyncio
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import nats

from octarm.clients.episodes import Writers
from octarm.clients.memory import MemoryClient
from octarm.models.episodes import Durability
from octarm.models.errors import OctarmError
from octarm.models.ids import new_id
from octarm.sdk.recall import Recall

TENANT: Final = "acme"
DURABLE_EACH: Final = 50
LINE_WITHIN_S: Final = 60


@dataclass
class Diarist:
    """The process, and what it was acknowledged: entry → whether it may still wait there."""

    process: asyncio.subprocess.Process
    episode_id: str
    tenant: str = TENANT
    acked: dict[int, bool] = field(default_factory=dict)

    async def killed_after(self, entries: int) -> dict[int, bool]:
        """Kill it when so many are acknowledged; gives all that it said until it was dead."""
        assert self.process.stdout is not None
        while True:
            line = await asyncio.wait_for(self.process.stdout.readline(), LINE_WITHIN_S)
            # The last one may have been cut in two.
            if not line.endswith(b"\n"):
                break
            number, how = line.split()
            self.acked[int(number)] = how == b"waiting"
            if len(self.acked) == entries:
                self.process.send_signal(signal.SIGKILL)
        await self.process.wait()
        return self.acked


@asynccontextmanager
async def a_diarist(nats_url: str) -> AsyncGenerator[Diarist, None]:
    """Start one; it is dead at the end."""
    argv = sys.executable, "-m", "tests.support.diarist", nats_url
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), LINE_WITHIN_S)
        yield Diarist(process, line.decode().strip())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def write(nats_url: str) -> None:
    """Write until killed; every fiftieth entry is durable."""
    nc = await nats.connect(nats_url)
    writers = Writers(nc)
    memory = Recall(MemoryClient(nc), TENANT, "diarist", writers.of(TENANT), new_id("tsk"))
    episode = await memory.open(durability="fast")
    print(episode.episode_id, flush=True)
    for number in range(1_000_000):
        durability: Durability = "durable" if number % DURABLE_EACH == DURABLE_EACH - 1 else "fast"
        try:
            written = await episode.observe(number, durability=durability)
            print(number, "waiting" if written.waiting else "kept", flush=True)
        except OctarmError as error:
            print(f"refused: {error}", file=sys.stderr)
        await asyncio.sleep(0.001)


if __name__ == "__main__":
    asyncio.run(write(sys.argv[1]))
