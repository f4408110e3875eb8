"""A wire that loses packets, for what goes over TCP: what is lost comes later, and all behind it.

No kernel module is needed: a lost packet is sent again by its sender after 200 ms, then after twice
as long, and TCP gives nothing of what follows to the receiver before. That is done here.
"""

import asyncio
import json
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

LOOPBACK: Final = "127.0.0.1"
SENT_AGAIN_AFTER_S: Final = 0.2
LONGEST_S: Final = 3.2
PACKET: Final = 1400


class LossyWire:
    """Passes connections on to the NATS of the stack in `data`."""

    def __init__(self, data: Path, share: float, chance: random.Random) -> None:
        self._up = data / "up.json"
        self._share = share
        self._chance = chance

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one connection on until either side ends it."""
        try:
            there = urlsplit(json.loads(self._up.read_text())["nats"])
            far_reader, far_writer = await asyncio.open_connection(there.hostname, there.port)
        except OSError:
            writer.close()
            return
        ways = (self._carry(reader, far_writer), self._carry(far_reader, writer))
        tasks = [asyncio.create_task(way) for way in ways]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for one in (writer, far_writer):
                one.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(PACKET):
                again_s = SENT_AGAIN_AFTER_S
                while self._chance.random() < self._share:
                    await asyncio.sleep(again_s)
                    again_s = min(LONGEST_S, 2 * again_s)
                writer.write(data)
                await writer.drain()


@asynccontextmanager
async def a_lossy_wire(
    data: Path, share: float, chance: random.Random
) -> AsyncGenerator[int, None]:
    """Such a wire; gives the port at which it begins."""
    wire = LossyWire(data, share, chance)
    server = await asyncio.start_server(wire.serve, LOOPBACK, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
