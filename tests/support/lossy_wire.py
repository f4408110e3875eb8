"""A wire that loses packets, for what goes over TCP: what is lost comes later, and all behind it.

No kernel module is needed: a lost packet is sent again by its sender after 200 ms, then after twice
as long, and TCP gives nothing of what follows to the receiver before. That is done here.
"""

import asyncio
import random
import threading
from contextlib import suppress
from functools import partial
from queue import Queue
from typing import Final
from urllib.parse import urlsplit

LOOPBACK: Final = "127.0.0.1"
SENT_AGAIN_AFTER_S: Final = 0.2
LONGEST_S: Final = 3.2
PACKET: Final = 1400


def over_a_lossy_wire(url: str, share: float) -> str:
    """Give another URL for a server, over a wire that a thread of this process serves."""
    port: Queue[int] = Queue()
    serving = partial(asyncio.run, _serve(url, share, port))
    threading.Thread(target=serving, name="lossy wire", daemon=True).start()
    return f"nats://{LOOPBACK}:{port.get(timeout=10)}"


async def _serve(url: str, share: float, port: "Queue[int]") -> None:
    chance, there = random.Random(share), urlsplit(url)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(there.hostname, there.port)
        except OSError:
            writer.close()
            return
        ways = (
            _carry(reader, far_writer, share=share, chance=chance),
            _carry(far_reader, writer, share=share, chance=chance),
        )
        tasks = [asyncio.create_task(way) for way in ways]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        writer.close()
        far_writer.close()

    server = await asyncio.start_server(connected, LOOPBACK, 0)
    port.put(server.sockets[0].getsockname()[1])
    await server.serve_forever()


async def _carry(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    *,
    share: float,
    chance: random.Random,
) -> None:
    with suppress(OSError):
        while data := await reader.read(PACKET):
            again_s = SENT_AGAIN_AFTER_S
            while chance.random() < share:
                await asyncio.sleep(again_s)
                again_s = min(LONGEST_S, 2 * again_s)
            writer.write(data)
            await writer.drain()
