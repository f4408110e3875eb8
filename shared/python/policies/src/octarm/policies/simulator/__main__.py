"""`python -m octarm.policies.simulator`: one or more policies on the same load."""

import argparse
import gc
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from octarm.policies.builtin import BUILTIN
from octarm.policies.simulator import load as loads
from octarm.policies.simulator import records
from octarm.policies.simulator.deciders import BadPolicy, decider
from octarm.policies.simulator.jobs import Job, generated, replayed
from octarm.policies.simulator.outcome import to_json
from octarm.policies.simulator.plot import NoPlot, draw
from octarm.policies.simulator.report import tables
from octarm.policies.simulator.world import simulated

EPILOG = f"""
built-in policies: {", ".join(sorted(BUILTIN))}

examples:
  python -m octarm.policies.simulator libraries/policies/loads/mixed_costs.toml
  python -m octarm.policies.simulator libraries/policies/loads/mixed_costs.toml \\
      --policy priority --policy libraries/policies/cost_optimiser.star --plot costs.png
  python -m octarm.policies.simulator --replay decisions.jsonl --policy fair_share --json -
"""


def parser() -> argparse.ArgumentParser:
    """Give the reader of the command line."""
    made = argparse.ArgumentParser(
        prog="python -m octarm.policies.simulator",
        description="Run policies in virtual time on a synthetic load or on recorded decisions.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("load", nargs="?", type=Path, help="a TOML file: arms, tasks, tenants …")
    made.add_argument(
        "--replay",
        type=Path,
        metavar="FILE",
        help="take the tasks from recorded decisions (JSON lines); arms too, without a load",
    )
    made.add_argument(
        "--policy",
        action="append",
        metavar="NAME|FILE",
        help="a built-in policy, or a .star or .yaml file; may be repeated (default: priority)",
    )
    made.add_argument("--seed", type=int, default=1, help="the same seed, the same bytes")
    made.add_argument("--json", metavar="FILE", help="write the figures, - for standard output")
    made.add_argument("--plot", type=Path, metavar="FILE", help="draw a picture (PNG or SVG)")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate and print; gives the exit code: 0, or 3 where what was given is wrong."""
    given = parser().parse_args(arguments)
    try:
        run(given)
    except (loads.BadLoad, BadPolicy, NoPlot) as error:
        sys.stderr.write(f"{error}\n")
        return 3
    return 0


def run(given: argparse.Namespace) -> None:
    """Run every policy on the same load."""
    policies = [decider(name) for name in given.policy or ["priority"]]
    recording = None if given.replay is None else records.read(given.replay)
    if given.load is not None:
        load = loads.read(given.load)
    elif recording is not None:
        load = records.load_of(recording, given.replay.name)
    else:
        raise loads.BadLoad("name a load (a TOML file), or recorded decisions with --replay")

    def jobs() -> Iterator[Job]:
        return generated(load, given.seed) if recording is None else replayed(recording)

    outcomes = [simulated(load, policy, jobs(), given.seed) for policy in policies]
    if given.json == "-":
        sys.stdout.write(to_json(outcomes).decode())
    else:
        sys.stdout.write(tables(outcomes))
    if given.json not in (None, "-"):
        Path(given.json).write_bytes(to_json(outcomes))
    if given.plot is not None:
        draw(outcomes, given.plot)


if __name__ == "__main__":
    # Next to nothing here is garbage in cycles, and what waits would be searched for it for ever.
    gc.set_threshold(20_000, 20, 50)
    sys.exit(main())
