"""Many arms in one process: `python -m bench.load.fleet NATS_URL COUNT SLOTS`.

They do nothing, or nap for the `seconds` of a task's context.
"""

import asyncio
import sys

from bench.noop_arm import noop
from octarm.common.service import run
from octarm.sdk import Arm, TaskContract, serve_together
from octarm.sdk.settings import ArmSettings


async def work(task: TaskContract) -> object:
    """Nap where the task says so; give its context back."""
    if seconds := task.context.get("seconds"):
        await asyncio.sleep(float(str(seconds)))
    return await noop(task)


async def serve(settings: ArmSettings, stop: asyncio.Event) -> None:
    """Serve so many no-op arms over one connection until SIGTERM."""
    url, count, slots = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    arms = [Arm(f"noop-{number}", capabilities={"noop"}, slots=slots) for number in range(count)]
    for arm in arms:
        arm.run(work)
    await serve_together(*arms, nats_url=url, stop=stop, drain_s=5)


if __name__ == "__main__":
    run(serve, ArmSettings, "fleet")
