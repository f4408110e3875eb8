"""Find an episode in Postgres when Redis has it not, and put it there."""

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from octarm.memory.domain.entries import Whole, encode, fold
from octarm.memory.usecases.flights import Flights
from octarm.memory.usecases.handing import HandOver
from octarm.memory.usecases.ports import Episodes, Front, FrontDown, Kept, Key, Stream

DRAINED_WITHIN_S: Final = 2.0


class Loaded(NamedTuple):
    """What Postgres has; `complete` when it has all that was acknowledged before the question."""

    whole: Whole | None
    body: bytes
    complete: bool
    degraded: bool


@dataclass(frozen=True, slots=True)
class LoadEpisode:
    """Wait for what is still in the stream, read Postgres, fill Redis; one look for all who ask."""

    kept: Episodes
    front: Front
    stream: Stream
    handed: HandOver
    flights: "Flights[Key, Loaded]" = field(default_factory=Flights)

    async def __call__(self, tenant: str, episode_id: str) -> Loaded:
        """
        Raises:
            Unavailable: Postgres does not answer.
        """
        return await self.flights.join((tenant, episode_id), lambda: self._load(tenant, episode_id))

    async def _load(self, tenant: str, episode_id: str) -> Loaded:
        token, degraded = "", False
        try:
            # First of all: a write that comes from now on makes it void.
            token = await self.front.lease(tenant, episode_id)
        except FrontDown:
            degraded = True
        complete = await self.drained()
        found = await self.kept.get(tenant, episode_id)
        if found is None:
            return Loaded(None, b"", complete=complete, degraded=degraded)
        if token and complete:
            degraded = not await self._fill(found, token)
        whole = fold(found.base.body.encode(), found.entries)
        return Loaded(whole, encode(whole), complete=complete, degraded=degraded)

    async def drained(self) -> bool:
        """Wait until Postgres has what was written before; false when that takes too long."""
        await self.handed.settled(DRAINED_WITHIN_S)
        return await self.stream.drained(DRAINED_WITHIN_S)

    async def _fill(self, found: Kept, token: str) -> bool:
        try:
            await self.front.fill(found, token)
        except FrontDown:
            return False
        return True
