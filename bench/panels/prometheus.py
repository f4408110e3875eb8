"""A Prometheus for some minutes: Debian's, from PATH or from where `make promtool` unpacks it."""

import asyncio
import json
import os
import shutil
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from octarm.cli.stack.ports import free_port

ROOT: Final = Path(__file__).parents[2]
UNPACKED: Final = ROOT / ".tools/prometheus/usr/bin"
SCRAPE_S: Final = 1
# As Grafana reckons it: four times the scrape interval, here a little more for smooth lines.
RATE_INTERVAL: Final = "8s"
READY_S: Final = 30.0
Series = tuple[dict[str, str], list[tuple[float, float]]]


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A server that scrapes."""

    url: str

    async def range(self, expression: str, begin: float, end: float) -> list[Series]:
        """Evaluate a panel's query from `begin` to `end`, Unix seconds, each second."""
        query = expression.replace("$__rate_interval", RATE_INTERVAL)
        asked: dict[str, str | float] = {
            "query": query,
            "start": begin,
            "end": end,
            "step": SCRAPE_S,
        }
        async with httpx.AsyncClient(base_url=self.url, timeout=30) as http:
            answer = await http.get("/api/v1/query_range", params=asked)
        answer.raise_for_status()
        return [_series(one) for one in answer.json()["data"]["result"]]


def _series(one: dict[str, Any]) -> Series:
    return one["metric"], [(float(at), float(value)) for at, value in one["values"]]


@asynccontextmanager
async def prometheus(folder: Path, targets: Mapping[str, str]) -> AsyncGenerator[Prometheus, None]:
    """Scrape `targets` (service to host:port) each second until the block ends.

    Raises:
        SystemExit: there is no Prometheus.
    """
    program = shutil.which("prometheus", path=f"{os.environ['PATH']}:{UNPACKED}")
    if program is None:
        raise SystemExit("prometheus is missing: run `make promtool`")
    jobs = [{"targets": [at], "labels": {"service": name}} for name, at in targets.items()]
    config = {
        "global": {"scrape_interval": f"{SCRAPE_S}s", "scrape_timeout": f"{SCRAPE_S}s"},
        "scrape_configs": [{"job_name": "octarm", "static_configs": jobs}],
    }
    file = folder / "prometheus.json"
    file.write_text(json.dumps(config))
    port = free_port()
    with (folder / "prometheus.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            program,
            f"--config.file={file}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--enable-feature=exemplar-storage",
            stdout=log,
            stderr=log,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        await _ready(url)
        yield Prometheus(url)
    finally:
        process.terminate()
        await process.wait()


async def _ready(url: str) -> None:
    async with asyncio.timeout(READY_S), httpx.AsyncClient(base_url=url) as http:
        while True:
            try:
                if (await http.get("/-/ready")).is_success:
                    return
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.2)
