"""Dramatiq on Redis: acknowledged after the work, results kept an hour."""

import os
import time

import dramatiq
from dramatiq import group
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from bench.peers.checked import check
from bench.peers.harness import Setting

REQUIRES = "dramatiq"
STORE = "Redis"
CONDITIONS = "Redis broker and results, acks after the work, JSON"
_WORKER = ("-m", "dramatiq", "bench.peers.dramatiq_redis", "--skip-logging")
SETTINGS = (
    Setting("2 processes, 8 threads", [[*_WORKER, "-p", "2", "-t", "8"]]),
    Setting("2 processes, 2 threads", [[*_WORKER, "-p", "2", "-t", "2"]]),
    Setting(
        "2 processes, 4 threads, prefetch 256",
        [[*_WORKER, "-p", "2", "-t", "4"]],
        {"dramatiq_queue_prefetch": "256"},
    ),
)

_url = os.environ["BENCH_REDIS"]
broker = RedisBroker(url=_url)
broker.add_middleware(Results(backend=RedisBackend(url=_url)))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True, result_ttl=3_600_000)
def noop(number: int) -> int:
    """Give the argument back."""
    return number


def measure(n: int) -> float:
    """See `Peer.measure`."""
    started = time.perf_counter()
    sent = group([noop.message(number) for number in range(n)]).run()
    values = list(sent.get_results(block=True, timeout=60_000 + n * 20))
    elapsed = time.perf_counter() - started
    check(values, n)
    return n / elapsed
