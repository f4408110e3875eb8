"""How fast policies decide, in CPU time of one core: no service, no bus, no clock.

Run: python -m bench.policies [--policy NAME …] [--script] [--million]
It prints tables, writes bench/out/policies.json and, where matplotlib is, draws
bench/plots/policies.png. CPU time, not the wall clock: other work disturbs it less, but a busy
machine still makes it half as fast.
"""

import argparse
import gc
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Final

from rich.console import Console
from rich.table import Table

from octarm.policies.actions import check
from octarm.policies.builtin import BUILTIN
from octarm.policies.builtin.policy import Builtin
from octarm.policies.collecting import BetweenCycles
from octarm.policies.context import WINDOW, ArmFacts
from octarm.policies.queue.arms import Arms
from octarm.policies.queue.cycle import place
from octarm.policies.queue.homes import Homes
from octarm.policies.queue.queue import Queue, Rules
from octarm.policies.queue.tasks import Task
from octarm.policies.queue.window import apply, context, window
from octarm.policies.simulator.deciders import Script, decider
from octarm.policies.simulator.jobs import generated
from octarm.policies.simulator.load import read
from octarm.policies.simulator.world import simulated

OUT: Final = Path(__file__).parent / "out"
PLOTS: Final = Path(__file__).parent / "plots"
LIBRARY: Final = Path(__file__).parents[1] / "libraries" / "policies"
NEEDS: Final = tuple(map(frozenset, ([], ["code"], ["read"], ["code", "read"], ["absent"])))
LENGTHS: Final = (1_000, 10_000, 50_000, 100_000)
FLEETS: Final = (10, 100, 1_000)
CYCLES: Final = 400
SCRIPTED_CYCLES: Final = 30
Place = Callable[[Queue, float], list[Task]]
Row = dict[str, float | int | str]


def a_queue(policy: Builtin, arms: int, length: int) -> tuple[Queue, float]:
    """Give a queue of that length before arms with room; and the seconds it took to fill it.

    A fifth of the tasks needs what no arm has; they come from 20 tenants, 200 sessions each.
    """
    fleet = Arms(policy.prefer, fit=policy.fit)
    for number in range(arms):
        tags = {"code"} | ({"read"} if number % 4 else set())
        facts = ArmFacts(f"arm-{number}", capabilities=frozenset(tags), cost_tier=1 + number % 5)
        fleet.report(fleet.learn(facts, now=0.0), slots=max(4 * WINDOW // arms, 4))
    rules = Rules(keep_free=0.1, catch_up=2.0)  # the scheduler's own
    queue, random = Queue(policy, fleet, rules=rules), Random(7)
    tasks = [a_task(number, random) for number in range(length)]
    began = time.process_time()
    for task in tasks:
        queue.add(task, now=task.queued_at)
    filled_s = time.process_time() - began
    return queue, filled_s


def a_task(number: int, random: Random) -> Task:
    """A task of no special kind."""
    return Task(
        f"tsk_{number:09}",
        queued_at=number / 1000,
        tenant=f"tenant-{random.randrange(20)}",
        tier=random.randrange(2),
        priority=random.randint(1, 10),
        needs=random.choice(NEEDS),
        labels={"session": f"s-{random.randrange(200)}"},
    )


def built_in(homes: Homes) -> Place:
    """Place as the scheduler does with a built-in policy."""
    return lambda queue, now: [it.task for it in place(queue, homes, now=now)]


def scripted(script: Script) -> Place:
    """Place as the scheduler does with a script, which runs in this process here."""

    def placed(queue: Queue, now: float) -> list[Task]:
        seen = context(queue, window(queue, now), now=now)
        kept = check(script.decide(seen), seen).kept
        return [it.task for it in apply(queue, kept, now=now).sent]

    return placed


def decided(
    name: str, policy: Builtin, placed: Place, *, arms: int, length: int, cycles: int = CYCLES
) -> Row:
    """Run full cycles and give how long they took; what was placed ends, and others come.

    Garbage is collected as the scheduler does it: between cycles, which counts in the placements
    a second, not in the decision.
    """
    random, number, took_ms, tidied_ms, count = Random(8), length, [], 0.0, 0
    now = length / 1000
    with BetweenCycles() as tidy:
        queue, filled_s = a_queue(policy, arms, length)
        for _ in range(cycles):
            now += 0.01
            began = time.process_time()
            queue.tick(now)
            tasks = placed(queue, now)
            ended = time.process_time()
            tidy(resting=False)
            took_ms.append((ended - began) * 1000)
            tidied_ms += (time.process_time() - ended) * 1000
            count += len(tasks)
            for task in tasks:
                queue.land(task.task_id, task.attempt)
                number += 1
                queue.add(a_task(number, random), now=now)
            if not tasks:
                break
    gc.unfreeze()
    given: Row = {"policy": name, "arms": arms, "queued": length, "reload_s": round(filled_s, 3)}
    return given | figures_of(sorted(took_ms), tidied_ms, count)


def figures_of(took_ms: Sequence[float], tidied_ms: float, count: int) -> Row:
    """Say what cycles took, sorted, and collecting after them, while so many were placed."""
    return {
        "placements_per_s": round(count / (sum(took_ms) + tidied_ms) * 1000),
        "decision_p50_ms": round(took_ms[len(took_ms) // 2], 3),
        "decision_p99_ms": round(took_ms[len(took_ms) * 99 // 100], 3),
        "tidied_ms_a_cycle": round(tidied_ms / len(took_ms), 3),
        "per_cycle": round(count / len(took_ms)),
    }


def a_million(policy: str) -> Row:
    """Simulate a million tasks."""
    load = read(LIBRARY / "loads" / "million.toml")
    began = time.perf_counter()
    outcome = simulated(load, BUILTIN[policy], generated(load, 1), 1)
    took_s = time.perf_counter() - began
    return {
        "policy": policy,
        "simulated": outcome.total.arrived,
        "took_s": round(took_s, 1),
        "tasks_per_s": round(outcome.total.arrived / took_s),
    }


def of_all(names: Sequence[str]) -> list[Row]:
    """Measure every policy at one size."""
    return [
        decided(name, BUILTIN[name], built_in(Homes()), arms=1_000, length=50_000)
        for name in sorted(names or BUILTIN)
    ]


def of_sizes() -> list[Row]:
    """Measure the default policy at all sizes."""
    default = BUILTIN["priority"]
    return [
        decided("priority", default, built_in(Homes()), arms=arms, length=length)
        for arms in FLEETS
        for length in LENGTHS
    ]


def of_a_script() -> list[Row]:
    """Measure a scripted policy."""
    script = decider(str(LIBRARY / "simple_priority.star"))
    assert isinstance(script, Script)
    placed, shares = scripted(script), BUILTIN["fair_share"]
    return [
        decided(script.name, shares, placed, arms=arms, length=10_000, cycles=SCRIPTED_CYCLES)
        for arms in FLEETS
    ]


def show(title: str, rows: Sequence[Row]) -> None:
    """Print rows as a table."""
    table = Table(*rows[0], title=title)
    for row in rows:
        table.add_row(
            *(value if isinstance(value, str) else f"{value:,}" for value in row.values())
        )
    Console(width=140).print(table)


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw decision time against queue length and arms."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, (by_length, by_arms) = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    for arms in FLEETS:
        line = [row for row in rows if row["arms"] == arms]
        queued = [row["queued"] for row in line]
        typical = [row["decision_p50_ms"] for row in line]
        (drawn,) = by_length.plot(queued, typical, "o-", label=f"{arms:,} arms")
        worst = [row["decision_p99_ms"] for row in line]
        by_length.plot(queued, worst, "x:", color=drawn.get_color())
    label = "ms a cycle (o p50, x p99)"
    by_length.set(xscale="log", xlabel="queued tasks", ylabel=label, ylim=0)
    by_length.set_title("priority: a cycle against the queue's length")
    for length in LENGTHS:
        line = [row for row in rows if row["queued"] == length]
        arms_of = [row["arms"] for row in line]
        by_arms.plot(
            arms_of, [row["decision_p50_ms"] for row in line], "o-", label=f"{length:,} queued"
        )
    by_arms.set(xscale="log", xlabel="arms", ylabel="ms a cycle (p50)", ylim=0)
    by_arms.set_title("priority: a cycle against the number of arms")
    for axis in (by_length, by_arms):
        axis.axhline(5, color="red", linewidth=0.8)
        axis.legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure, write, show."""
    gc.collect()
    gc.freeze()  # as services do at their start
    gc.set_threshold(20_000, 20, 50)  # the simulator's
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--policy", action="append", default=[], choices=sorted(BUILTIN))
    parser.add_argument("--script", action="store_true", help="measure a scripted policy too")
    parser.add_argument("--million", action="store_true", help="simulate a million tasks too")
    given = parser.parse_args()
    found = {"policies": of_all(given.policy), "sizes": of_sizes()}
    if given.script:
        found["script"] = of_a_script()
    for title, rows in found.items():
        show(f"decisions: {title}, CPU time of one core", rows)
    if given.million:
        found["simulated"] = [a_million(name) for name in ("priority", "fair_share")]
        show("simulator, wall clock", found["simulated"])
    OUT.mkdir(exist_ok=True)
    (OUT / "policies.json").write_text(json.dumps(found, indent=2) + "\n")
    try:
        draw(found["sizes"], PLOTS / "policies.png")
    except ImportError:
        sys.stderr.write("no picture: uv sync --group bench brings matplotlib\n")


if __name__ == "__main__":
    main()
