"""An arm that spends what its task says, and dies when it is told to.

Run as `python -m tests.support.spending_arm`. `context.calls` lists the tokens of each call;
`context.die_after` is the attempt up to which it kills itself with -9 after its calls.
"""

import asyncio
import os
import signal
from collections.abc import Mapping

from octarm.sdk import Arm, Context, TaskContract

TOLD_S = 0.5
arm = Arm("spender", capabilities={"spend"}, slots=50)


@arm.run
async def spend(task: TaskContract, ctx: Context) -> Mapping[str, object]:
    before = ctx.budget.left.tokens
    calls = task.context.get("calls", [])
    assert isinstance(calls, list)
    for number, tokens in enumerate(calls):
        assert isinstance(tokens, int)
        ctx.spend(tokens=tokens, llm_calls=1, call_no=number)
    if ctx.attempt <= int(str(task.context.get("die_after", 0))):
        await asyncio.sleep(TOLD_S)
        os.kill(os.getpid(), signal.SIGKILL)
    return {"left": before}


if __name__ == "__main__":
    arm.main()
