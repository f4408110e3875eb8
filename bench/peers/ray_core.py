"""Ray core: nothing durable, as a ceiling of what a task system on two cores may do."""

import time

import ray

from bench.peers.checked import check
from bench.peers.harness import Setting

REQUIRES = "ray"
STORE = "memory"
CONDITIONS = "in memory, not durable: tasks and results are gone with the process"
SETTINGS = (
    Setting(
        "2 CPUs, no dashboard",
        [],
        {
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_MODE": "disabled",
            "RAY_raylet_start_wait_time_s": "120",
        },
    ),
)


@ray.remote
def noop(number: int) -> int:
    """Give the argument back."""
    return number


def measure(n: int) -> float:
    """See `Peer.measure`."""
    if not ray.is_initialized():
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    started = time.perf_counter()
    values = ray.get([noop.remote(number) for number in range(n)])
    elapsed = time.perf_counter() - started
    check(values, n)
    return n / elapsed
