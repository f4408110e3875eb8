"""Fast writes that nobody waits for: how many are on their way, and what became of them."""

import asyncio
from typing import Final

from octarm.models.errors import OctarmError, from_problem

MAX_ENTRIES: Final = 256
MAX_BYTES: Final = 1024 * 1024


class Window:
    """Writes to one episode that were taken here and have no answer yet.

    At most 256 and 1 MiB; who comes while it is full waits. `behind` has it as long as it holds
    something: a write that was not answered, or a refusal that was not told.
    """

    __slots__ = ("_behind", "_bytes", "_changed", "_entries", "_problem", "_refused", "episode_id")

    def __init__(self, episode_id: str, behind: "Behind") -> None:
        self.episode_id = episode_id
        self._behind = behind
        self._entries = 0
        self._bytes = 0
        self._refused = 0
        self._problem: OctarmError | None = None
        self._changed: asyncio.Future[None] | None = None

    async def room(self, size: int) -> None:
        """Return once a write of `size` bytes may be taken.

        Raises:
            OctarmError: an earlier write was refused; said once.
        """
        while self._entries and (self._entries >= MAX_ENTRIES or self._bytes + size > MAX_BYTES):
            await self._change()
        self._tell()

    async def flushed(self) -> None:
        """Return once every write has its answer.

        Raises:
            OctarmError: one was refused; said once.
        """
        while self._entries:
            await self._change()
        self._tell()

    def take(self, size: int) -> None:
        """Count a write that is on its way now."""
        self._entries += 1
        self._bytes += size
        self._behind.windows.add(self)

    def answered(self, size: int, refusal: OctarmError | None) -> None:
        """Count one out, and keep the first refusal for whoever comes next."""
        self._entries -= 1
        self._bytes -= size
        if refusal is not None:
            self._refused += 1
            self._problem = self._problem or refusal
        elif not self._entries and self._problem is None:
            self._behind.windows.discard(self)
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    async def _change(self) -> None:
        if self._changed is None or self._changed.done():
            self._changed = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._changed)

    def _tell(self) -> None:
        if self._problem is None:
            return
        problem, refused = self._problem.problem(), self._refused
        self._problem, self._refused = None, 0
        if not self._entries:
            self._behind.windows.discard(self)
        detail = f"{refused} fast writes to {self.episode_id} were not kept: {problem.detail}"
        raise from_problem(problem.model_copy(update={"detail": detail}))


class Behind:
    """What one attempt has written and nobody has answered yet, over all its episodes."""

    __slots__ = ("windows",)

    def __init__(self) -> None:
        self.windows: set[Window] = set()

    async def flushed(self, episode_id: str = "") -> None:
        """Return once every write, or every one to that episode, has its answer.

        Raises:
            OctarmError: one was refused; said once, all others having been waited for.
        """
        refusal: OctarmError | None = None
        for window in [one for one in self.windows if episode_id in ("", one.episode_id)]:
            try:
                await window.flushed()
            except OctarmError as error:
                refusal = refusal or error
        if refusal is not None:
            raise refusal
