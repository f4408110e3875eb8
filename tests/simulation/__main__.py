"""Run seeds: `python -m tests.simulation --first 1 --seeds 100`, or replay one with `--lines`."""

import argparse
import gc
import sys
import time
from pathlib import Path

from tests.simulation.bugs import BUGS, planted
from tests.simulation.plans import plan_of
from tests.simulation.world import World, hush

COLLECT_EVERY = 8
REGRESSIONS = Path(__file__).with_name("regressions.txt")


def regressions() -> list[int]:
    """Give the seeds that once found something."""
    lines = REGRESSIONS.read_text(encoding="utf-8").splitlines()
    return [int(line.split()[0]) for line in lines if line[:1].isdigit()]


def run(seed: int, *, tasks: int, keep_lines: bool = False) -> World:
    """Run one seed."""
    return World(seed, plan_of(seed, tasks=tasks), keep_lines=keep_lines).run()


def main() -> int:
    """Run what the command line says; 1 when a seed has found something."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--step", type=int, default=1, help="for runs side by side")
    parser.add_argument("--tasks", type=int, default=24, help="a run's amount of work")
    parser.add_argument("--bug", choices=sorted(BUGS), help="plant a bug")
    parser.add_argument("--stop", action="store_true", help="stop at the first finding")
    parser.add_argument("--lines", action="store_true", help="print what happened")
    parser.add_argument("--digest", action="store_true", help="print each run's digest")
    asked = parser.parse_args()
    hush()
    began, found = time.process_time(), 0
    # Runs end before memory does; collecting while they run takes a sixth of the time.
    gc.disable()
    with planted(asked.bug):
        seeds = range(asked.first, asked.first + asked.seeds, asked.step)
        for done, seed in enumerate(seeds, start=1):
            world = run(seed, tasks=asked.tasks, keep_lines=asked.lines)
            if asked.lines:
                sys.stdout.write("\n".join(world.chronicle.lines or []) + "\n")
            if asked.digest:
                sys.stdout.write(f"{seed} {world.digest}\n")
            if done % COLLECT_EVERY == 0:
                gc.collect()
            if world.problems:
                found += 1
                sys.stdout.write(f"seed {seed} ({world.plan.name}):\n")
                sys.stdout.writelines(f"    {problem}\n" for problem in world.problems[:10])
                sys.stdout.flush()
                if asked.stop:
                    break
    took_s = time.process_time() - began
    sys.stdout.write(f"{asked.seeds} seeds, {found} with findings, {took_s:.0f} s of CPU\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
