"""For handlers that have nothing to do between hearing of a cancellation and stopping."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from octarm.sdk.context import Context

T = TypeVar("T")


async def unless_cancelled(ctx: Context, work: Coroutine[Any, Any, T]) -> T:
    """Run `work`, and cancel it at once when the attempt is called off; returns when it has ended.

    Raises:
        CancelledError: the attempt was called off.
    """
    working = asyncio.create_task(work)
    called_off = asyncio.create_task(ctx.wait_cancelled())
    try:
        await asyncio.wait({working, called_off}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise asyncio.CancelledError(ctx.cancel_reason)
    finally:
        for part in (working, called_off):
            part.cancel()
        await asyncio.gather(working, called_off, return_exceptions=True)
