"""Celery on Redis: late acknowledgements, results kept an hour."""

import os
import time

from celery import Celery
from celery.result import ResultSet

from bench.peers.checked import check
from bench.peers.harness import Setting

REQUIRES = "celery"
STORE = "Redis"
CONDITIONS = "Redis broker and results, acks_late, JSON, no events"
_WORKER = ("-m", "celery", "-A", "bench.peers.celery_redis", "worker", "-l", "error")
_QUIET = ("--without-gossip", "--without-mingle", "--without-heartbeat")
SETTINGS = (
    Setting("prefork 2, prefetch 64", [[*_WORKER, *_QUIET, "-c", "2"]], {"BENCH_PREFETCH": "64"}),
    Setting("prefork 4, prefetch 16", [[*_WORKER, *_QUIET, "-c", "4"]], {"BENCH_PREFETCH": "16"}),
    Setting(
        "2 solo workers, prefetch 64",
        [[*_WORKER, *_QUIET, "-P", "solo", "-n", f"w{number}"] for number in range(2)],
        {"BENCH_PREFETCH": "64"},
    ),
)

_redis = os.environ["BENCH_REDIS"]
app = Celery("bench.peers.celery_redis", broker=_redis, backend=_redis)
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=int(os.environ.get("BENCH_PREFETCH", "4")),
    result_expires=3600,
    worker_send_task_events=False,
    broker_connection_retry_on_startup=True,
)


@app.task
def noop(number: int) -> int:
    """Give the argument back."""
    return number


def measure(n: int) -> float:
    """See `Peer.measure`."""
    started = time.perf_counter()
    results = [noop.delay(number) for number in range(n)]
    values = ResultSet(results, app=app).join_native(timeout=60 + n / 50)
    elapsed = time.perf_counter() - started
    check(values, n)
    return n / elapsed
