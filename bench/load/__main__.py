"""Run a load scenario against an embedded stack: `python -m bench.load NAME`.

steady, overload, burst, memory and recovery end with the invariants checked; ledger-size and
arms draw `bench/plots/growth.png`; many-arms says what heartbeats cost and who gets how much.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import uvloop

from bench.client import figures_of
from bench.load import growth, plot
from bench.load.many_arms import many_arms
from bench.load.scenarios import SCENARIOS, Stage
from octarm.cli.stack.supervisor import running_stack

OUT = Path(__file__).parents[1] / "out"
GROWTHS = {"ledger-size": growth.ledger_size, "arms": growth.arms}
FLEETS = ("arms", "many-arms")
NOOP = (sys.executable, "-m", "bench.noop_arm")


async def run(given: argparse.Namespace) -> Any:
    """Start the stack, let the loading client run, stop the stack."""
    env = {"OCTARM_TRACE_SAMPLE": "0", "OCTARM_LOG_LEVEL": "warning"}
    if given.scenario == "many-arms":
        env["OCTARM_POLICY"] = "fair_share"
    extra = {} if given.scenario in FLEETS else {"noop": NOOP}
    with tempfile.TemporaryDirectory(prefix="octarm-load-") as folder:
        async with running_stack(Path(folder), extra_arms=extra, env=env):
            up = Path(folder) / "up.json"
            return await figures_of(
                *("bench.load", given.scenario, "--n", str(given.n), "--up", str(up)),
                *("--seconds", str(given.seconds), "--steps", str(given.steps)),
            )


async def load(given: argparse.Namespace, up: dict[str, Any]) -> Any:
    """Be the client of a stack that runs."""
    stage = Stage(up, given.n, given.seconds)
    if given.scenario == "many-arms":
        return await many_arms(stage)
    if given.scenario in SCENARIOS:
        return await SCENARIOS[given.scenario][0](stage)
    steps = (growth.SIZES if given.scenario == "ledger-size" else growth.ARMS)[: given.steps]
    return await GROWTHS[given.scenario](stage, steps)


def main() -> None:
    """Run a scenario, write `bench/out/load-NAME.json`, print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenario", choices=[*SCENARIOS, *GROWTHS, "many-arms"])
    parser.add_argument("--seconds", type=float, help="of load; as the scenario needs by default")
    parser.add_argument("--n", type=int, default=10_000, help="tasks of a throughput run")
    parser.add_argument("--steps", type=int, default=9, help="how far to grow: the first ones only")
    parser.add_argument("--up", help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.seconds = given.seconds or SCENARIOS.get(given.scenario, (None, 0.0))[1]
    if given.up:
        print(json.dumps(uvloop.run(load(given, json.loads(Path(given.up).read_text())))))
        return
    found = asyncio.run(run(given))
    OUT.mkdir(exist_ok=True)
    (OUT / f"load-{given.scenario}.json").write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))
    if given.scenario in GROWTHS:
        files = {name: OUT / f"load-{name}.json" for name in GROWTHS}
        plot.draw({n: json.loads(f.read_text()) for n, f in files.items() if f.exists()})


if __name__ == "__main__":
    main()
