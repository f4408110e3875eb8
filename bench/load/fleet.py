"""Many arms in one process: `python -m bench.load.fleet NATS_URL COUNT SLOTS`.

They do nothing, or nap for the `seconds` of a task's context.
"""

import asyncio
import signal
import sys

import uvloop

from bench.noop_arm import noop
from octarm.sdk import Arm, TaskContract

BETWEEN_S = 0.05


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
    serving = []
    for arm in arms:
        serving.append(asyncio.create_task(arm.serve(nats_url=url, stop=stop, drain_s=5)))
        # What asks all at once is answered after it has stopped waiting, and asks again.
        await asyncio.sleep(BETWEEN_S)
    await asyncio.gather(*serving)


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
