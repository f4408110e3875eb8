"""Start the executor: `python -m octarm.executor [--unsafe]`."""

import argparse
import asyncio
import sys

from octarm.common.service import read_settings, refuse
from octarm.executor.run_task import RunTask
from octarm.executor.sandbox import CannotIsolate, Runner, Sandbox, Unsafe
from octarm.executor.settings import Settings
from octarm.models.contracts import TaskContract
from octarm.models.errors import OctarmError
from octarm.models.results import ExecutionResult
from octarm.sdk import Arm, Context
from octarm.sdk.cancelling import unless_cancelled

WARNING = (
    "octarm-executor: WARNING: --unsafe: commands run WITHOUT ISOLATION, with the files, the "
    "network and the rights of this user. Never take tasks from others like this.\n"
)


def executor(settings: Settings, runner: Runner) -> Arm:
    """Wire the arm."""
    # A bare goal is no command: whoever wants one run says so.
    arm = Arm(
        settings.arm_id,
        capabilities={"execute", "shell", "python"},
        slots=settings.slots,
        takes_any=False,
    )
    run_task = RunTask(runner, settings.limits)

    @arm.run
    async def run(task: TaskContract, ctx: Context) -> ExecutionResult:
        return await unless_cancelled(ctx, run_task(task, ctx))

    return arm


def main() -> None:
    """Read the settings, try the sandbox once, and serve."""
    parser = argparse.ArgumentParser(prog="python -m octarm.executor", description=__doc__)
    parser.add_argument("--unsafe", action="store_true", help="run commands without isolation")
    unsafe = parser.parse_args().unsafe
    try:
        settings = read_settings(Settings)
    except OctarmError as error:
        refuse("executor", error.message)
    runner: Runner
    if unsafe or settings.unsafe:
        sys.stderr.write(WARNING)
        runner = Unsafe()
    else:
        runner = Sandbox()
        try:
            asyncio.run(runner.check())
        except CannotIsolate as error:
            refuse("executor", str(error))
    executor(settings, runner).main()


if __name__ == "__main__":
    main()
