"""How fast the scheduler's pure domain code places tasks, in CPU time of one core.

Run: python -m bench.scheduler_domain [tasks] [arms]; one JSON line comes out.
"""

import gc
import json
import sys
import time
from datetime import UTC, datetime
from random import Random

from msgspec import Raw

from octarm.models.hot import Heartbeat, ReadyTask
from octarm.models.ids import typeid, uuid7
from octarm.scheduler.domain.cycle import place
from octarm.scheduler.domain.fleet import ArmFacts, Fleet
from octarm.scheduler.domain.priority import preference
from octarm.scheduler.domain.queue import QueueView
from octarm.scheduler.domain.tasks import Hold, QueuedTask

SLOTS = 10_000
NEEDS: list[list[str]] = [[], ["summarise"], ["code"], ["summarise", "english"], ["absent"]]


def a_fleet(arms: int) -> Fleet:
    """Arms with room for everything, three quarters of which have every capability but one."""
    fleet = Fleet()
    for number in range(arms):
        tags = {"summarise", "code"} | ({"english"} if number % 4 else set())
        fleet.learn(ArmFacts(f"arm-{number}", "online", frozenset(tags), 1 + number % 5))
        fleet.beat(Heartbeat(f"arm-{number}", "i-1", 1, "ready", SLOTS, [], interval_s=60), now=0.0)
    return fleet


def tasks(count: int) -> list[QueuedTask]:
    """Mixed tasks, a fifth of which no arm can take."""
    random = Random(7)
    made = []
    for number in range(count):
        ready = ReadyTask(
            typeid("tsk", uuid7(1_700_000_000_000 + number // 10, random.getrandbits(80))),
            1,
            "default",
            random.choice(("interactive", "batch")),
            random.randint(1, 10),
            random.choice(NEEDS),
            datetime.fromtimestamp(1_700_000_000 + number / 1000, tz=UTC),
            Raw(b"{}"),
        )
        made.append(QueuedTask(ready, Hold(number, 1, lambda: None)))
    return made


def main() -> None:
    """Queue everything, place everything, say how long each took."""
    given = [int(text) for text in sys.argv[1:]]
    count, arms = given + [50_000, 100][len(given) :]
    fleet, waiting = a_fleet(arms), tasks(count)
    queue = QueueView(ageing_s=60.0, promote_after_s=300.0)
    began = time.process_time()
    for task in waiting:
        queue.add(task)
    queued = time.process_time()
    placed, cycles = 0, [0.0]
    gc.freeze()  # as the service does: what waits is not garbage
    while True:
        cycle = time.process_time()
        decisions = place(queue, fleet, preference, now=1.0)
        cycles.append(time.process_time() - cycle)
        if not decisions:
            break
        placed += len(decisions)
        for decision in decisions:
            fleet.release(decision.task.task_id, 1)
    ended = time.process_time()
    report = {
        "tasks": count,
        "arms": arms,
        "queued_per_s": round(count / (queued - began)),
        "placements_per_s": round(placed / (ended - queued)),
        "cycle_p99_ms": round(sorted(cycles)[len(cycles) * 99 // 100] * 1000, 2),
        "left": len(queue),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
