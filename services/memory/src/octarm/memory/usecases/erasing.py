"""Erase all that memory has about a subject, step by step, and give a receipt.

Every step may be done again: it finds less. What is under way is written down, so another replica,
or this one after its end, goes on with it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from octarm.common import telemetry
from octarm.common.clock import any_set_within
from octarm.common.telemetry import metrics
from octarm.memory.domain.receipts import new_erasure_id
from octarm.memory.usecases.ports import FrontDown, Key
from octarm.models.episodes import EpisodeForgotten, ForgetEpisode
from octarm.models.erasure import EraseSubject, Erasure, GetErasure, Subject
from octarm.models.errors import NotFound, OctarmError, Unavailable

LOOK_EVERY_S: Final = 5.0

log = telemetry.get_logger()


@dataclass(frozen=True, slots=True)
class Running:
    """An erasure that is under way."""

    erasure_id: str
    tenant: str
    subject: Subject


class Erasing(Protocol):
    """Where receipts and what they are about are kept. All raise `Unavailable`."""

    async def begin(self, erasure_id: str, command: EraseSubject) -> Erasure:
        """Write down that this is to be erased; one that is under way already is given."""
        ...

    async def receipt(self, tenant: str, erasure_id: str) -> Erasure | None:
        """Give a tenant's receipt."""
        ...

    async def running(self) -> list[Running]:
        """Give those under way, the oldest first."""
        ...

    async def episodes(self, running: Running) -> list[str]:
        """Give some episodes of the subject."""
        ...

    async def note(self, running: Running, episode_ids: Sequence[str]) -> None:
        """Write down, and count, episodes that will be forgotten."""
        ...

    async def gone(self, running: Running, episode_ids: Sequence[str]) -> None:
        """Delete what was noted of episodes on the way to memories."""
        ...

    def forgotten(self, running: Running) -> AsyncIterator[list[str]]:
        """Give the episodes that were forgotten, some at a time."""
        ...

    async def knowledge(self, running: Running) -> None:
        """Delete the memories of the subject, and what was derived from them."""
        ...

    async def traces(self, running: Running) -> None:
        """Take the subject out of the audit, the words and the statistics."""
        ...

    async def finish(self, running: Running) -> None:
        """Close the receipt, and forget of whom it is."""
        ...


class Cache(Protocol):
    """The cache in front."""

    async def drop(self, keys: Sequence[Key]) -> None:
        """Delete what it has of these; raises `FrontDown`."""
        ...

    async def bury(self, tenant: str, episode_id: str) -> None:
        """Leave nothing of an episode but that it is gone; raises `FrontDown`."""
        ...


@dataclass(frozen=True, slots=True)
class BeginErasing:
    """Take an order to erase; the work is done beside."""

    kept: Erasing
    wake: asyncio.Event

    async def __call__(self, command: EraseSubject) -> Erasure:
        """
        Raises:
            Unavailable: Postgres does not answer; asking again begins nothing twice.
        """
        begun = await self.kept.begin(new_erasure_id(), command)
        self.wake.set()
        return begun


@dataclass(frozen=True, slots=True)
class ShowErasure:
    """Show a receipt."""

    kept: Erasing

    async def __call__(self, query: GetErasure) -> Erasure:
        """
        Raises:
            NotFound: the tenant has no such receipt.
            Unavailable: Postgres does not answer.
        """
        found = await self.kept.receipt(query.tenant, query.erasure_id)
        if found is None:
            raise NotFound(f"no erasure {query.erasure_id}", code="ERASURE_NOT_FOUND")
        return found


@dataclass(frozen=True, slots=True)
class Erase:
    """Works off what is to be erased."""

    kept: Erasing
    forget: Callable[[ForgetEpisode], Awaitable[EpisodeForgotten]]
    cache: Cache
    settle: Callable[[], Awaitable[None]]
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; what fails is tried again with the next look."""
        while not stop.is_set():
            self.wake.clear()
            try:
                for one in await self.kept.running():
                    if not stop.is_set():
                        await self(one)
            except OctarmError as error:
                log.warning("not_erased_yet", error=error.message)
            await any_set_within(LOOK_EVERY_S, stop, self.wake)

    async def __call__(self, running: Running) -> None:
        """Erase one subject.

        Raises:
            Unavailable: Postgres or Redis does not answer; it goes on with the next call.
        """
        while ids := await self.kept.episodes(running):
            # First of all: who goes on after a crash must know what Redis may still have.
            await self.kept.note(running, ids)
            for episode_id in ids:
                await self.forget(ForgetEpisode(tenant=running.tenant, episode_id=episode_id))
            await self.kept.gone(running, ids)
        await self.kept.knowledge(running)
        await self._clear(running)
        # What was read of it a moment ago is still being written down.
        await self.settle()
        await self.kept.traces(running)
        await self.kept.finish(running)
        metrics.inc("octarm_memory_erasures_total", kind=running.subject.kind)
        log.info("erased", erasure_id=running.erasure_id, kind=running.subject.kind)

    async def _clear(self, running: Running) -> None:
        """See to it that Redis has nothing more: it may have been away when they were forgotten."""
        async for ids in self.kept.forgotten(running):
            try:
                if running.subject.everything:
                    # That they are gone goes, too: the keys bear the tenant's name.
                    await self.cache.drop([(running.tenant, one) for one in ids])
                else:
                    for one in ids:
                        await self.cache.bury(running.tenant, one)
            except FrontDown as error:
                raise Unavailable("Redis does not answer", retry_after_s=1) from error
