"""Many arms in one process: `python -m bench.load.fleet NATS_URL COUNT SLOTS`.

They do nothing, or nap for the `seconds` of a task's context.
"""

import asyncio
import signal
import sys

import uvloop

from bench.noop_arm import noop
from octarm.sdk import Arm, TaskContract


async def work(task: TaskContract) -> object:
    """Nap where the task says so; give its context back."""
    if seconds := task.context.get("seconds"):
        await asyncio.sleep(float(str(seconds)))
    return await noop(task)


async def serve(url: str, count: int, slots: int) -> None:
    """Serve `count` no-op arms until SIGTERM."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    arms = [Arm(f"noop-{number}", capabilities={"noop"}, slots=slots) for number in range(count)]
    for arm in arms:
        arm.run(work)
    await asyncio.gather(*(arm.serve(nats_url=url, stop=stop, drain_s=5) for arm in arms))


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
