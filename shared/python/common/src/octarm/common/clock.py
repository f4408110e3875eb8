"""Time as a port, so that logic can be tested without waiting."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Where the time comes from."""

    def now(self) -> datetime:
        """Give the wall-clock time, with zone UTC."""
        ...

    def monotonic(self) -> float:
        """Give seconds on a clock that never goes back."""
        ...


async def set_within(event: asyncio.Event, seconds: float) -> bool:
    """Wait until the event is set, for at most `seconds`; tells whether it is."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False


async def any_set_within(seconds: float, *events: asyncio.Event) -> None:
    """Wait until one of the events is set, for at most `seconds`."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


class SystemClock:
    """The clock of this machine."""

    def now(self) -> datetime:
        """Give the wall-clock time, with zone UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Give seconds on a clock that never goes back."""
        return time.monotonic()
