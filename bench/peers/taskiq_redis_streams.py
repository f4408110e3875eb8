"""Taskiq on Redis streams with results in Redis."""

import asyncio
import os

from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from bench.peers import taskiq_client
from bench.peers.harness import Setting

REQUIRES = "taskiq_redis"
STORE = "Redis"
CONDITIONS = "Redis streams and results, acks after the result is saved"
_MODULE = "bench.peers.taskiq_redis_streams:broker"
_WORKER = ("-m", "taskiq", "worker", _MODULE, "--log-level", "ERROR")
SETTINGS = (
    Setting("2 processes, read 100", [[*_WORKER, "--workers", "2"]]),
    Setting(
        "2 processes, read 500, 500 at once, prefetch 500",
        [[*_WORKER, "--workers", "2", "--max-async-tasks", "500", "--max-prefetch", "500"]],
        {"BENCH_FETCH": "500"},
    ),
)

_url = os.environ["BENCH_REDIS"]
broker = RedisStreamBroker(
    _url, consumer_id="0", xread_count=int(os.environ.get("BENCH_FETCH", "100"))
).with_result_backend(RedisAsyncResultBackend(_url, result_ex_time=3600))


@broker.task
async def noop(number: int) -> int:
    """Give the argument back."""
    return number


def measure(n: int) -> float:
    """See `Peer.measure`."""
    return asyncio.run(taskiq_client.measure(broker, noop.kiq, n))
