"""Three times as much as the system can do: what it still does, and what the others are told.

`python -m bench.overload --seconds 120`. First a closed loop finds the capacity, then an open
loop offers a multiple of it. Each request holds 100 tasks with idempotency keys, the dearest
kind to refuse: the ledger has to be asked whether it knows them.
"""

import argparse
import asyncio
import itertools
import json
import os
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil
import psycopg
from nats.aio.client import Client as NATS
from nats.aio.msg import Msg

from octarm.cli.stack.supervisor import Stack, running_stack
from octarm.common.bus.connection import connect
from octarm.common.bus.requests import ask_raw
from octarm.common.bus.task_history import events_subject
from octarm.models.errors import OctarmError
from octarm.models.subjects import COMPLETED, SUBMIT_TASKS
from octarm.sdk.submissions import read_answers

GROUP: Final = 100
MARK: Final = 5_000
WARM_UP_S: Final = 3.0
_TASK: Final = (
    b'{"submission":{"goal":"x","required_capabilities":["noop"],"idempotency_key":"%d-%d"}}'
)


@dataclass
class Load:
    """A tenant that counts what it sends, what it is told and what ends."""

    nc: NATS
    accepted: int = 0
    ended: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    took_s: list[float] = field(default_factory=list)
    _keys: "itertools.count[int]" = field(default_factory=itertools.count)

    async def listen(self) -> None:
        """Count completed tasks."""

        async def heard(msg: Msg) -> None:
            self.ended += msg.data.count(b'"type":"task.completed"')

        await self.nc.subscribe(events_subject("default", what=COMPLETED), cb=heard)

    async def send(self) -> None:
        """Submit one group and count the answers."""
        tasks = b",".join([_TASK % (os.getpid(), next(self._keys)) for _ in range(GROUP)])
        body = b'{"tenant":"default","submissions":[%b]}' % tasks
        began = time.perf_counter()
        try:
            answers = read_answers(await ask_raw(self.nc, SUBMIT_TASKS.at(), body), GROUP)
        except OctarmError as error:
            self.refused[error.code] += GROUP
            self.took_s.append(time.perf_counter() - began)
            return
        for answer in answers:
            if isinstance(answer, OctarmError):
                self.refused[answer.code] += 1
            else:
                self.accepted += 1


async def closed_loop(load: Load, seconds: float) -> float:
    """Keep the system busy below the mark; gives what it completes a second."""

    async def worker() -> None:
        while time.monotonic() < until:
            if load.accepted - load.ended < MARK // 2:
                await load.send()
            else:
                await asyncio.sleep(0.01)

    until = time.monotonic() + WARM_UP_S + seconds
    workers = [asyncio.create_task(worker()) for _ in range(4)]
    await asyncio.sleep(WARM_UP_S)
    before, began = load.ended, time.monotonic()
    await asyncio.sleep(seconds)
    rate = (load.ended - before) / (time.monotonic() - began)
    await asyncio.gather(*workers)
    return rate


async def open_loop(load: Load, seconds: float, rate: float) -> float:
    """Offer `rate` tasks a second whatever happens; gives what is completed a second."""
    sending: set[asyncio.Task[None]] = set()
    began = time.monotonic()
    counted_from, counted_at = 0, began
    for number in itertools.count():
        due = began + number * GROUP / rate
        if due > began + WARM_UP_S + seconds:
            break
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        if not counted_from and due > began + WARM_UP_S:
            counted_from, counted_at = load.ended, time.monotonic()
        task = asyncio.create_task(load.send())
        sending.add(task)
        task.add_done_callback(sending.discard)
    goodput = (load.ended - counted_from) / (time.monotonic() - counted_at)
    await asyncio.gather(*sending)
    return goodput


async def run(folder: Path, seconds: float, times: float) -> dict[str, object]:
    """Measure in a stack of its own."""
    noop = (sys.executable, "-m", "bench.noop_arm")
    env = {
        "OCTARM_TRACE_SAMPLE": "0",
        "OCTARM_LOG_LEVEL": "warning",
        "OCTARM_MAX_OPEN_TASKS": str(MARK),
    }
    async with running_stack(folder, extra_arms={"noop": noop}, env=env) as stack:
        nc = await connect(stack.urls.nats, name="overload")
        load = Load(nc)
        await load.listen()
        start = sum(_cpu_s(stack).values())
        before_load = load.ended
        capacity = await closed_loop(load, min(seconds, 15))
        await _all_ended(load)
        usual = (sum(_cpu_s(stack).values()) - start) / (load.ended - before_load)
        before_load = load.ended
        load.refused.clear()
        load.took_s.clear()
        before = _cpu_s(stack)
        goodput = await open_loop(load, seconds, times * capacity)
        await _all_ended(load)
        cpu = {role: round(used - before[role], 1) for role, used in _cpu_s(stack).items()}
        overloaded = sum(cpu.values()) / (load.ended - before_load)
        attempts = await _attempts_per_task(stack.urls.postgres)
        await nc.close()
    took = sorted(load.took_s) or [0.0]
    return {
        "capacity_per_s": round(capacity),
        "offered_per_s": round(times * capacity),
        "goodput_per_s": round(goodput),
        "goodput_share": round(goodput / capacity, 3),
        "refused": dict(load.refused),
        "refusal_p50_ms": round(took[len(took) // 2] * 1000, 1),
        "refusal_p99_ms": round(took[int(len(took) * 0.99)] * 1000, 1),
        "accepted": load.accepted,
        "ended": load.ended,
        "attempts_per_task": attempts,
        "cpu_us_per_task": round(usual * 1e6),
        "cpu_us_per_task_overloaded": round(overloaded * 1e6),
        "cpu_s": cpu,
    }


def _cpu_s(stack: Stack) -> dict[str, float]:
    """Give the processor time of every process so far, ours included."""
    used = {"load": sum(psutil.Process().cpu_times()[:2])}
    for role, pid in stack.pids().items():
        if pid == os.getpid():
            continue
        first = psutil.Process(pid)
        family = [first, *first.children(recursive=True)]
        used[role] = sum(sum(process.cpu_times()[:2]) for process in family)
    return used


async def _all_ended(load: Load) -> None:
    for _ in range(600):
        if load.ended >= load.accepted:
            return
        await asyncio.sleep(0.1)


async def _attempts_per_task(url: str) -> float:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        cursor = await connection.execute("select avg(attempt) from ledger.task")
        row = await cursor.fetchone()
    return round(float(row[0]), 4) if row else 0.0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120, help="how long to overload")
    parser.add_argument("--times", type=float, default=3, help="of the capacity")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="octarm-overload-") as data:
        print(json.dumps(asyncio.run(run(Path(data), given.seconds, given.times)), indent=2))
