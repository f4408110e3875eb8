"""The baseline: a bare durable pipeline of nats-py and msgspec, and nothing else.

Producer → stream → worker → stream → collector; window-published, pulled in batches,
explicitly acknowledged, file storage. The worker is a process of its own, as an arm is.
"""

import asyncio
import contextlib
import sys
import time
from collections.abc import Awaitable, Callable

import msgspec
import nats
from nats.js import JetStreamContext
from nats.js.api import RetentionPolicy, StorageType, StreamConfig

WINDOW = 1000
BATCH = 500
IN, OUT = "bench.in", "bench.out"


class Job(msgspec.Struct):
    """What travels."""

    id: int
    goal: str
    context: dict[str, int]


async def _publish_all(js: JetStreamContext, subject: str, bodies: list[bytes]) -> None:
    pending: list[Awaitable[object]] = []
    for body in bodies:
        pending.append(await js.publish_async(subject, body))
        if len(pending) == WINDOW:
            await asyncio.gather(*pending)
            pending = []
    await asyncio.gather(*pending)


async def _streams(js: JetStreamContext) -> None:
    for name, subject in (("BENCH_IN", IN), ("BENCH_OUT", OUT)):
        await js.add_stream(
            StreamConfig(
                name=name,
                subjects=[subject],
                retention=RetentionPolicy.WORK_QUEUE,
                storage=StorageType.FILE,
                duplicate_window=120,
            )
        )


async def worker(url: str) -> None:
    """Pull jobs, publish answers, acknowledge; until killed."""
    connection = await nats.connect(url)
    js = connection.jetstream(publish_async_max_pending=4 * WINDOW)
    jobs = await js.pull_subscribe(IN, durable="bench-worker", stream="BENCH_IN")
    decode, encode = msgspec.json.Decoder(Job).decode, msgspec.json.Encoder().encode
    while True:
        with contextlib.suppress(TimeoutError):
            batch = await jobs.fetch(BATCH, timeout=1)
            await _publish_all(js, OUT, [encode(decode(message.data)) for message in batch])
            for message in batch:
                await message.ack()


async def run(url: str, n: int) -> float:
    """Send `n` jobs through the pipeline and back; gives tasks a second."""
    connection = await nats.connect(url)
    js = connection.jetstream(publish_async_max_pending=4 * WINDOW)
    await _streams(js)
    answers = await js.pull_subscribe(OUT, durable="bench-collector", stream="BENCH_OUT")
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "bench.bare", url)
    encode, decode = msgspec.json.Encoder().encode, msgspec.json.Decoder(Job).decode
    bodies = [encode(Job(i, "do nothing", {"n": i})) for i in range(n)]
    try:
        await _run_once(js, answers, bodies[:1000], decode)
        started = time.perf_counter()
        await _run_once(js, answers, bodies, decode)
        return n / (time.perf_counter() - started)
    finally:
        process.kill()
        await process.wait()
        await js.delete_stream("BENCH_IN")
        await js.delete_stream("BENCH_OUT")
        await connection.close()


async def _run_once(
    js: JetStreamContext,
    answers: JetStreamContext.PullSubscription,
    bodies: list[bytes],
    decode: Callable[[bytes], Job],
) -> None:
    missing = set(range(len(bodies)))
    producing = asyncio.create_task(_publish_all(js, IN, bodies))
    while missing:
        with contextlib.suppress(TimeoutError):
            for message in await answers.fetch(BATCH, timeout=1):
                missing.discard(decode(message.data).id)
                await message.ack()
    await producing


if __name__ == "__main__":
    import uvloop

    uvloop.run(worker(sys.argv[1]))
