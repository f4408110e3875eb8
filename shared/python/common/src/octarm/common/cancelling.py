"""Ending tasks for certain."""

import asyncio
from typing import Any, Final

AGAIN_AFTER_S: Final = 3.0


async def end(*tasks: asyncio.Future[Any], again_after_s: float = AGAIN_AFTER_S) -> None:
    """Cancel tasks until each has ended; what they raised is dropped.

    Once is not enough: in Python 3.11 `asyncio.wait_for`, by which the NATS client waits, forgets a
    cancellation that comes together with the answer. `again_after_s` is what cleaning up may take.
    """
    while left := [task for task in tasks if not task.done()]:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=again_after_s)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # Or it would be told as never looked at.
