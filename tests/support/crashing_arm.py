"""An arm under fire: naps, fails and spends as the task says, and notes every run in a file.

Run as `python -m tests.support.crashing_arm`; `CHAOS_SINK` names the file, `CHAOS_ARM` and
`CHAOS_SLOTS` the arm where it is another one, `CHAOS_LOSES` what share of packets gets lost.
"""

import asyncio
import json
import os
import resource
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from octarm.models.errors import Unavailable
from octarm.sdk import Arm, Context, TaskContract
from tests.support.lossy_wire import over_a_lossy_wire

NAME: Final = "crasher"
SINK: Final = "CHAOS_SINK"
SLOTS: Final = 100
MIB: Final = 2**20
arm = Arm(
    os.environ.get("CHAOS_ARM", NAME),
    capabilities={"crash"},
    slots=int(os.environ.get("CHAOS_SLOTS", SLOTS)),
)


@arm.run
async def work(task: TaskContract, ctx: Context) -> Mapping[str, object]:
    """Do what `context` says.

    `nap_s`, `fails` (attempts that fail), `calls` (booked spends), `poison` (harm of some kind).
    """
    note(task.task_id, ctx.attempt)
    wanted = task.context
    for call_no in range(_number(wanted.get("calls"))):
        ctx.spend(tokens=10, llm_calls=1, call_no=call_no)
    await poison(wanted.get("poison"))
    await asyncio.sleep(float(str(wanted.get("nap_s", 0))))
    if ctx.attempt <= _number(wanted.get("fails")):
        raise Unavailable("asked to fail")
    return {"number": wanted["number"]}


async def poison(kind: object) -> None:
    """Harm the process as bad work does: `kill` it, `hoard` its memory, `spin` or `hang` in it."""
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif kind == "hoard":
        _hoard()
    elif kind == "spin":
        while True:
            pass
    elif kind == "hang":
        await asyncio.Event().wait()


def _hoard() -> None:
    """Take memory until there is no more: 256 MiB beyond what the process has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 256 * MIB, hard))
    try:
        taken = []
        while True:
            taken.append(bytearray(16 * MIB))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def note(task_id: str, attempt: int) -> None:
    """Append the run to the sink: one short write, so lines of several processes stay whole."""
    path = os.environ.get(SINK)
    if path:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            line = {"task_id": task_id, "attempt": attempt, "call_no": 0}
            os.write(file, f"{json.dumps(line)}\n".encode())
        finally:
            os.close(file)


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


if __name__ == "__main__":
    if loses := float(os.environ.get("CHAOS_LOSES", 0)):
        os.environ["OCTARM_NATS_URL"] = over_a_lossy_wire(os.environ["OCTARM_NATS_URL"], loses)
    arm.main()
