"""Load the embedded stack for a minute, let Prometheus watch, and draw every dashboard.

`python -m bench.panels` (or `make panels`) writes docs/images/dashboards/NAME.png. Grafana is no
Debian package: the panels' own queries are evaluated by Prometheus and drawn by matplotlib.
"""

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from bench.panels.draw import draw
from bench.panels.load import STOPPED, Load
from bench.panels.prometheus import ROOT, Prometheus, prometheus
from octarm.cli.stack.supervisor import running_stack
from tests.support.scraping import endpoints

BOARDS: Final = ROOT / "deploy/observability/dashboards"
IMAGES: Final = ROOT / "docs/images/dashboards"
BEFORE_S, AFTER_S = 5.0, 10.0


async def main() -> None:
    """Run it all; it takes two minutes."""
    with tempfile.TemporaryDirectory(prefix="octarm-panels-") as name:
        folder = Path(name)
        worker = (sys.executable, "-m", "bench.panels.arm")
        env = {"OCTARM_LOG_LEVEL": "warning", "OCTARM_TRACE_SAMPLE": "0"}
        async with running_stack(folder, extra_arms={"worker": worker}, env=env):
            up = json.loads((folder / "up.json").read_text())
            targets = {
                role: url.removeprefix("http://").removesuffix("/metrics")
                for role, url in endpoints(up["pids"]).items()
            }
            async with prometheus(folder, targets) as server:
                await asyncio.sleep(BEFORE_S)
                begin = time.time()
                await Load(up["gateway"], up["nats"], up["pids"]["worker"]).run()
                await asyncio.sleep(AFTER_S)
                await _draw_all(server, begin, time.time())


async def _draw_all(server: Prometheus, begin: float, end: float) -> None:
    fault = (begin + STOPPED[0], begin + STOPPED[1])
    for path in sorted(BOARDS.glob("*.json")):
        board: dict[str, Any] = json.loads(path.read_text())
        found = {
            panel["id"]: [
                series
                for target in panel["targets"]
                for series in await server.range(target["expr"], begin, end)
            ]
            for panel in board["panels"]
        }
        draw(board, found, span=(begin, end), fault=fault, to=IMAGES / f"{path.stem}.png")
        empty = [panel["title"] for panel in board["panels"] if not found[panel["id"]]]
        print(f"{path.stem}: {len(found)} panels, without a series: {empty or 'none'}")


if __name__ == "__main__":
    asyncio.run(main())
