"""What signals mean to `octarm up`: the first drains, the second forces, SIGHUP reloads."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress

from octarm.cli.stack.supervisor import Stack

EX_FORCED = 130


async def run_until_signalled(stack: Stack, work: Coroutine[None, None, None]) -> int:
    """Run `work`, which owns the stack; cancel it at the first SIGINT or SIGTERM.

    A second signal ends every process at once.

    Returns:
        The exit code: 0 after a drain, 130 after a forced end.
    """
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    signals = 0

    def stop() -> None:
        nonlocal signals
        signals += 1
        if signals == 1:
            task.cancel()
        else:
            stack.kill_everything()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGHUP, lambda: _hang_up(stack, stop))
    try:
        with suppress(asyncio.CancelledError):
            await task
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.remove_signal_handler(number)
    return EX_FORCED if signals > 1 else 0


def _hang_up(stack: Stack, stop: Callable[[], None]) -> None:
    """A closed terminal ends the stack; without one it means that services reload."""
    if sys.stdin is not None and sys.stdin.isatty():
        stop()
        return
    for keeper in stack.services:
        if keeper.server.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(keeper.server.pid, signal.SIGHUP)
