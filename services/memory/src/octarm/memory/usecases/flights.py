"""Single flight: who asks for the same at the same time is answered by one look."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
R = TypeVar("R")


class Flights(Generic[K, R]):
    """One look at a time for each key.

    Who comes while one is under way does not join it, as it may have looked already when that was
    written which he must see; all who come meanwhile share the next one.
    """

    def __init__(self) -> None:
        self._next: dict[K, asyncio.Task[R]] = {}
        self._under_way: dict[K, asyncio.Task[R]] = {}

    async def join(self, key: K, look: Callable[[], Awaitable[R]]) -> R:
        """Give the answer of a look that begins after this call; raises what it raises."""
        waiting = self._next.get(key)
        if waiting is None:
            before = self._under_way.get(key)
            waiting = self._next[key] = asyncio.create_task(self._fly(key, look, before))
        # Whoever stops waiting must not take the answer from the others.
        return await asyncio.shield(waiting)

    async def _fly(
        self, key: K, look: Callable[[], Awaitable[R]], before: "asyncio.Task[R] | None"
    ) -> R:
        if before is not None:
            await asyncio.wait([before])
        me = self._next.pop(key)
        self._under_way[key] = me
        try:
            return await look()
        finally:
            if self._under_way.get(key) is me:
                del self._under_way[key]
