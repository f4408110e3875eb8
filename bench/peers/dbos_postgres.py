"""DBOS on Postgres: a queue of workflows, enqueued by a client, run by two processes."""

import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from dbos import DBOS, DBOSClient, EnqueueOptions, WorkflowHandle

from bench.peers.checked import check
from bench.peers.harness import Setting

REQUIRES = "dbos"
STORE = "Postgres"
CONDITIONS = "Postgres (fsync on), workflows and results kept"
_WORKER = ("-m", "bench.peers.dbos_postgres")
SETTINGS = (
    Setting("2 workers, polled every 0.1 s", [[*_WORKER, "0.1"]] * 2),
    Setting("2 workers, polled every 0.02 s", [[*_WORKER, "0.02"]] * 2),
)
CLIENT_THREADS = 8
VERSION = "bench"


@DBOS.workflow(name="noop")
def noop(number: int) -> int:
    """Give the argument back."""
    return number


def _launch(polling_s: float) -> None:
    DBOS(
        config={
            "name": "bench",
            "system_database_url": os.environ["BENCH_POSTGRES"],
            "application_version": VERSION,
            "executor_id": str(os.getpid()),
            "log_level": "ERROR",
        }
    )
    DBOS.launch()
    DBOS.register_queue("bench", polling_interval_sec=polling_s, on_conflict="always_update")


def prepare() -> None:
    """Make the tables."""
    _launch(1.0)
    DBOS.destroy()


def measure(n: int) -> float:
    """See `Peer.measure`."""
    client = DBOSClient(system_database_url=os.environ["BENCH_POSTGRES"])
    options: EnqueueOptions = {
        "queue_name": "bench",
        "workflow_name": "noop",
        "app_version": VERSION,
    }

    def send(number: int) -> WorkflowHandle[Any]:
        return client.enqueue(options, number)

    def wait(handle: WorkflowHandle[Any]) -> Any:
        return handle.get_result(polling_interval_sec=0.05)

    started = time.perf_counter()
    with ThreadPoolExecutor(CLIENT_THREADS) as pool:
        handles = list(pool.map(send, range(n)))
        values = list(pool.map(wait, handles))
    elapsed = time.perf_counter() - started
    client.destroy()
    check(values, n)
    return n / elapsed


if __name__ == "__main__":
    _launch(float(sys.argv[1]))
    threading.Event().wait()
