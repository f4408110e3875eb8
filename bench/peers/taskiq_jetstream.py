"""Taskiq on JetStream with results in Redis."""

import asyncio
import os

from nats.js.api import ConsumerConfig, StorageType, StreamConfig
from taskiq_nats import PullBasedJetStreamBroker
from taskiq_redis import RedisAsyncResultBackend

from bench.peers import taskiq_client
from bench.peers.harness import Setting

REQUIRES = "taskiq_nats"
STORE = "JetStream"
CONDITIONS = "JetStream (file storage), results in Redis, acks after saving"
_WORKER = ("-m", "taskiq", "worker", "bench.peers.taskiq_jetstream:broker", "--log-level", "ERROR")
SETTINGS = (
    Setting("2 processes, fetch 100", [[*_WORKER, "--workers", "2"]]),
    Setting(
        "2 processes, fetch 500, 500 at once, prefetch 500",
        [[*_WORKER, "--workers", "2", "--max-async-tasks", "500", "--max-prefetch", "500"]],
        {"BENCH_FETCH": "500"},
    ),
    Setting(
        "1 process, fetch 500, 500 at once, prefetch 500",
        [[*_WORKER, "--workers", "1", "--max-async-tasks", "500", "--max-prefetch", "500"]],
        {"BENCH_FETCH": "500"},
    ),
)

broker = PullBasedJetStreamBroker(
    os.environ["BENCH_NATS"],
    stream_config=StreamConfig(storage=StorageType.FILE),
    consumer_config=ConsumerConfig(durable_name="taskiq_durable", max_ack_pending=10_000),
    pull_consume_batch=int(os.environ.get("BENCH_FETCH", "100")),
    pull_consume_timeout=1.0,
).with_result_backend(RedisAsyncResultBackend(os.environ["BENCH_REDIS"], result_ex_time=3600))


@broker.task
async def noop(number: int) -> int:
    """Give the argument back."""
    return number


def measure(n: int) -> float:
    """See `Peer.measure`."""
    return asyncio.run(taskiq_client.measure(broker, noop.kiq, n))
