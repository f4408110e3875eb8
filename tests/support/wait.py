"""Waiting for something to become true, instead of sleeping."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable

_FIRST_PAUSE_S = 0.002
_LONGEST_PAUSE_S = 0.1
# What a busy machine delays is no finding, so nobody waits shorter.
PATIENCE_S = 60.0


async def wait_until(
    predicate: Callable[[], object | Awaitable[object]], timeout_s: float = PATIENCE_S
) -> None:
    """Return as soon as `predicate()` (plain or async) is truthy.

    Raises:
        AssertionError: it stayed falsy for `timeout_s`, at least a minute; names the predicate.
    """
    timeout_s = max(timeout_s, PATIENCE_S)
    give_up_at = time.monotonic() + timeout_s
    pause_s = _FIRST_PAUSE_S
    while True:
        answer = predicate()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer:
            return
        if time.monotonic() > give_up_at:
            raise AssertionError(f"not so within {timeout_s} s: {_describe(predicate)}")
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)


def _describe(predicate: Callable[[], object]) -> str:
    try:
        return inspect.getsource(predicate).strip()
    except (OSError, TypeError):
        return repr(predicate)
