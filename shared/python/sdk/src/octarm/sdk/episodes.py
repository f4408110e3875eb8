"""An episode that an arm writes while it works."""

import itertools
import time
import uuid
from typing import Final

import msgspec
from pydantic import JsonValue

from octarm.clients.episode_answers import Written
from octarm.clients.episodes import EpisodeWriter, as_body
from octarm.clients.write_behind import Behind, Window
from octarm.models.episodes import Durability, EpisodeOpening, WriteKind
from octarm.models.hot_episodes import EpisodeOpening as Opening
from octarm.models.hot_episodes import EpisodeWrite

OPENED: Final = "open"


class OpenEpisode:
    """What the arm sees, does and gets, written as it happens.

    Entries keep the order in which they were begun. `durable` returns when the entry survives
    every process of the fleet. `fast` returns when the entry stands in this process, in a window
    of 256 entries and 1 MiB, and goes out with the next request; it is lost if this process dies
    before, or the memory service within the second after it has it. `flush` waits for what is in
    the window, and so do `outcome`, `close`, `extend`, every durable entry, reads by the same
    attempt and its end. Give `entry_id` (64 letters, digits or `_.:-`) to write what you may
    write again; the second time is ignored. Every method raises NotFound (forgotten), Conflict
    (closed, full) or Unavailable; that of a fast entry comes with the next call.
    """

    def __init__(
        self, writer: EpisodeWriter, episode_id: str, durability: Durability, behind: Behind
    ) -> None:
        self.episode_id = episode_id
        self._writer = writer
        self._durability = durability
        self._window = Window(episode_id, behind)
        self._name = uuid.uuid4().hex[:12]
        self._numbers = itertools.count(1)
        self._last_seq = 0

    async def observe(
        self, body: JsonValue, *, entry_id: str = "", durability: Durability | None = None
    ) -> Written:
        """Add what the arm saw."""
        return await self._add("observation", body, entry_id, durability)

    async def act(
        self, body: JsonValue, *, entry_id: str = "", durability: Durability | None = None
    ) -> Written:
        """Add what the arm does."""
        return await self._add("action", body, entry_id, durability)

    async def outcome(
        self, body: JsonValue, *, entry_id: str = "", durability: Durability | None = None
    ) -> Written:
        """Add what came of it, when all before it is kept; never taken without an answer."""
        write = self._entry("outcome", body, entry_id)
        await self.flush()
        return await self._writer.write(write, durability or self._durability)

    async def flush(self) -> None:
        """Return when every fast entry is kept; the error of one that is not is raised once."""
        await self._window.flushed()

    async def close(self) -> Written:
        """Let nothing more be added; again it does nothing."""
        return await self._write(EpisodeWrite(self.episode_id, "close", "close", self._seq()))

    async def extend(self, ttl_seconds: int) -> Written:
        """Keep it in Redis for that many seconds (30 days at most) after each write, or longer."""
        write = EpisodeWrite(
            self.episode_id,
            f"extend.{ttl_seconds}",
            "extend",
            self._seq(),
            ttl_seconds=ttl_seconds,
        )
        return await self._write(write)

    async def open(self, opening: EpisodeOpening) -> Written:
        """Open it; `ctx.memory.open` calls this."""
        body = msgspec.json.decode(opening.model_dump_json(), type=Opening)
        write = EpisodeWrite(self.episode_id, OPENED, "open", self._seq(), opening=body)
        return await self._write(write)

    async def _add(
        self, kind: WriteKind, body: JsonValue, entry_id: str, durability: Durability | None
    ) -> Written:
        write = self._entry(kind, body, entry_id)
        if (durability or self._durability) == "fast":
            return await self._writer.write_behind(write, self._window)
        return await self._write(write)

    def _entry(self, kind: WriteKind, body: JsonValue, entry_id: str) -> EpisodeWrite:
        name = entry_id or f"{self._name}.{next(self._numbers)}"
        return EpisodeWrite(self.episode_id, name, kind, self._seq(), as_body(body))

    async def _write(self, write: EpisodeWrite) -> Written:
        await self.flush()
        return await self._writer.write(write, "durable")

    def _seq(self) -> int:
        self._last_seq = max(self._last_seq + 1, time.time_ns() // 1000)
        return self._last_seq
