"""Have every memory's vector made by the embedder in use: resumable, some rows at a time."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol

from octarm.common import telemetry
from octarm.common.clock import any_set_within, set_within
from octarm.common.telemetry import metrics
from octarm.memory.usecases.knowledge import Embedder
from octarm.models.errors import OctarmError
from octarm.models.semantic import Reembedding, ReembedMemories

LOOK_EVERY_S: Final = 15.0
# So few that their rows are not locked for long, and searches are embedded in between.
AT_ONCE: Final = 32
BREATH_S: Final = 0.02

log = telemetry.get_logger()


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is; without `started_at` nobody has wished for it."""

    total: int
    done: int
    left: int
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def running(self) -> bool:
        """Whether there is something to do that somebody has wished for."""
        return self.started_at is not None and self.finished_at is None


class Rows(Protocol):
    """The rows that need a vector. All raise `Unavailable` when it does not answer."""

    async def start(self, space: int) -> None:
        """Wish for vectors of this space in every row."""
        ...

    async def progress(self, space: int) -> Progress:
        """Say how far it is."""
        ...

    async def some(
        self,
        space: int,
        embed: Callable[[Sequence[str]], Awaitable[list[list[float]]]],
        *,
        every: bool,
        limit: int,
    ) -> int:
        """Embed some rows; gives their number."""
        ...


@dataclass(frozen=True, slots=True)
class Reembed:
    """Give vectors to rows that have none, and, once it is wished for, to those of others."""

    rows: Rows
    embedder: Embedder
    space_of: Callable[[str, int], Awaitable[int]]
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, command: ReembedMemories) -> Reembedding:
        """Start, or only tell; idempotent.

        Raises:
            Unavailable: Postgres does not answer.
        """
        space = await self.space_of(self.embedder.name, self.embedder.dimension)
        if command.start:
            await self.rows.start(space)
            self.wake.set()
        progress = await self.rows.progress(space)
        return Reembedding(
            embedder=self.embedder.name,
            dimension=self.embedder.dimension,
            running=progress.running,
            total=progress.total,
            done=progress.done,
            left=progress.left,
            started_at=progress.started_at,
            finished_at=progress.finished_at,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Look for work until `stop` is set; what fails is tried again with the next look."""
        while not stop.is_set():
            self.wake.clear()
            try:
                await self.catch_up(stop)
            except OctarmError as error:
                log.warning("memories_not_embedded", error=error.message)
            await any_set_within(LOOK_EVERY_S, stop, self.wake)

    async def catch_up(self, stop: asyncio.Event) -> None:
        """Do all that there is to do now."""
        space = await self.space_of(self.embedder.name, self.embedder.dimension)
        every = (await self.rows.progress(space)).running
        while not stop.is_set():
            number = await self.rows.some(space, self.embedder.embed, every=every, limit=AT_ONCE)
            metrics.inc("octarm_memory_reembedded_total", number)
            if not number:
                return
            await set_within(stop, BREATH_S)
