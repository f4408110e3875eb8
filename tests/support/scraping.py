"""What the processes of a running stack say of themselves at /metrics."""

from collections.abc import Iterable, Mapping

import httpx
import psutil
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

OPEN_METRICS = "application/openmetrics-text; version=1.0.0"
SERVERS = {"supervisor", "nats", "postgres", "redis"}


def endpoints(pids: Mapping[str, int]) -> dict[str, str]:
    """Find where each service and arm listens: the port that is its own."""
    found = {}
    for role, pid in pids.items():
        if role not in SERVERS:
            listening = [
                each.laddr.port
                for each in psutil.Process(pid).net_connections("tcp4")
                if each.status == psutil.CONN_LISTEN
            ]
            found[role] = f"http://127.0.0.1:{min(listening)}/metrics"
    return found


async def scraped(urls: Iterable[str]) -> list[Sample]:
    """Read every sample of these processes."""
    samples: list[Sample] = []
    async with httpx.AsyncClient(timeout=30) as http:
        for url in urls:
            answer = await http.get(url, headers={"accept": OPEN_METRICS})
            answer.raise_for_status()
            families = text_string_to_metric_families(answer.text)  # type: ignore[no-untyped-call]
            for family in families:
                samples += family.samples
    return samples
