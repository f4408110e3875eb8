"""What the chaos driver does to dead letters that go back: ten thousand, and processes that die."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

import psycopg
from nats.js import JetStreamContext

from octarm.models import subjects as s
from octarm.models.commands import SubmitTask
from octarm.models.contracts import TaskSubmission
from octarm.models.ids import new_id
from tests.chaos.faults import Plan, Storm, jetstream
from tests.support.crashing_arm import NAME
from tests.support.wait import wait_until

A_BURST: Final = 250
VICTIMS: Final = ("gateway", "orchestrator", "nats", "orchestrator", "gateway")
BETWEEN_S: Final = 4.0
ALL_ENDED_S: Final = 300.0
GOAL: Final = "redriven"
_LETTERS: Final = s.DEAD_LETTER.format(origin="*")
_FOUND: Final = """
    select count(*), count(distinct labels ->> 'letter'),
        count(*) filter (where terminal_at is null)
    from ledger.task where goal = %s
"""


async def redrive(storm: Storm, *, letters: int = 10_000) -> None:
    """Quarantined submissions, ten thousand, go back, while gateway and orchestrator die.

    They lack a Msg-Id and a key of their own: only the letters tell one from its copy.
    """
    async with jetstream(storm) as js:
        await _write(js, letters)
        await wait_until(lambda: _are_left(js, letters), 120)
        redriving = asyncio.create_task(_until_none_are_left(storm, js))
        for victim in VICTIMS:
            async with storm.wind.fault(f"kill -9 {victim} in the middle of redriving"):
                storm.stage.stack.kill(victim)
            await asyncio.sleep(BETWEEN_S)
        runs = await redriving
    url = storm.stage.stack.urls.postgres
    await wait_until(lambda: _all_there(url, letters), ALL_ENDED_S)
    tasks, of, open_ones = await asyncio.to_thread(_found, url)
    figure = f"{tasks} tasks of {of} letters in {runs} runs of the command, {open_ones} open"
    storm.wind.promise("redriven", figure, (tasks, of, open_ones) == (letters, letters, 0))


async def _write(js: JetStreamContext, wanted: int) -> None:
    """Hand in so many tasks as nobody may, so that each becomes a dead letter."""
    subject = s.SUBMIT_TASK.at(tenant="default")
    for number in range(wanted):
        submission = TaskSubmission(
            goal=GOAL,
            assigned_arm=NAME,
            context={"number": number},
            labels={"letter": str(number)},
        )
        body = SubmitTask(task_id=new_id("tsk"), submission=submission)
        await js._nc.publish(subject, body.model_dump_json(exclude_unset=True).encode())
        if number % A_BURST == 0:
            await js._nc.flush(timeout=30)


async def _are_left(js: JetStreamContext, wanted: int) -> bool:
    info = await js.stream_info(s.DLQ, subjects_filter=_LETTERS)
    return sum((info.state.subjects or {}).values()) == wanted


async def _until_none_are_left(storm: Storm, js: JetStreamContext) -> int:
    """Redrive in bulk again and again, as an operator would; gives how often."""
    for run in range(1, 60):
        await _octarm(storm, ("dlq", "redrive", "--all", "--yes"))
        try:
            if await _are_left(js, 0):
                return run
        except (TimeoutError, OSError):
            continue
        await asyncio.sleep(1)
    raise AssertionError("dead letters are left")


async def _octarm(storm: Storm, command: Sequence[str]) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "octarm.cli", *command),
        env={**os.environ, "OCTARM_URL": storm.stage.stack.urls.gateway},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    await process.wait()


async def _all_there(url: str, wanted: int) -> bool:
    tasks, _, open_ones = await asyncio.to_thread(_found, url)
    return tasks >= wanted and not open_ones


def _found(url: str) -> tuple[int, int, int]:
    with psycopg.connect(url) as connection:
        row = connection.execute(_FOUND, [GOAL]).fetchone()
    assert row is not None
    return row[0], row[1], row[2]


REDRIVE_PLANS: Final[dict[str, Plan]] = {
    "redrive": Plan(scenario=redrive, rate=20, recovers_within_s=60.0),
}
