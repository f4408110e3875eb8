"""Turn what is worth keeping of episodes into memories before the episodes are forgotten."""

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Protocol

from octarm.common import telemetry
from octarm.common.clock import set_within
from octarm.common.telemetry import metrics
from octarm.memory.domain.consolidation import lessons, observations
from octarm.memory.domain.entries import encode, fold
from octarm.memory.usecases.condensing import AskForCondensing
from octarm.memory.usecases.keeping import RememberKnowledge
from octarm.memory.usecases.ports import Kept
from octarm.models.episodes import EpisodicMemory
from octarm.models.errors import OctarmError
from octarm.models.semantic import Remember

LOOK_EVERY_S: Final = 10.0
TIDY_EVERY: Final = 360
MAX_TRIES: Final = 5
# Of arms that are none any more, and of those that never were.
NOBODY: Final = "memory"

log = telemetry.get_logger()


@dataclass(slots=True)
class Claim:
    """An episode that is looked through now; settled, failed, or left for another time."""

    tenant: str
    episode_id: str
    settled: bool = False
    failed: bool = False
    most_tries: int = MAX_TRIES


@dataclass(frozen=True, slots=True)
class Backlog:
    """Episodes that are due, and the seconds for which the oldest has been."""

    waiting: int
    late_s: float


class Agenda(Protocol):
    """Which episodes are due. All raise `Unavailable` when it does not answer."""

    async def discover(self, *, wait_s: int) -> bool:
        """Note episodes that were written to; gives whether all was looked at."""
        ...

    def next_due(self) -> AbstractAsyncContextManager[Claim | None]:
        """Take the one that is due longest."""
        ...

    async def see(
        self, tenant: str, arm_id: str, episode_id: str, digests: Sequence[bytes]
    ) -> dict[bytes, int]:
        """Note observations; gives in how many episodes of the arm each was."""
        ...

    async def backlog(self) -> Backlog:
        """Say how much is due."""
        ...

    async def tidy(self) -> None:
        """Delete notes that nobody needs any more."""
        ...


class Shelf(Protocol):
    """Where episodes are."""

    async def get(self, tenant: str, episode_id: str) -> Kept | None:
        """Give an episode with its entries; raises Unavailable."""
        ...


@dataclass(frozen=True, slots=True)
class Consolidate:
    """Look through the episodes that are due; doing it twice is doing it once."""

    agenda: Agenda
    episodes: Shelf
    remember: RememberKnowledge
    wait_s: int
    condense: AskForCondensing | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Look until `stop` is set; what fails is tried again."""
        looks = 0
        while not stop.is_set():
            try:
                await self.catch_up(stop)
                if looks % TIDY_EVERY == 0:
                    await self.agenda.tidy()
            except OctarmError as error:
                log.warning("episodes_not_consolidated", error=error.message)
            looks += 1
            await set_within(stop, LOOK_EVERY_S)

    async def catch_up(self, stop: asyncio.Event) -> None:
        """Look through all that is due now.

        Raises:
            Unavailable: Postgres does not answer.
        """
        while not await self.agenda.discover(wait_s=self.wait_s) and not stop.is_set():
            pass
        await self._tell()
        while not stop.is_set():
            async with self.agenda.next_due() as claim:
                if claim is None:
                    break
                await self._consolidate(claim)
        await self._tell()

    async def _tell(self) -> None:
        backlog = await self.agenda.backlog()
        metrics.put("octarm_memory_consolidation_waiting", backlog.waiting)
        metrics.put("octarm_memory_consolidation_late_seconds", backlog.late_s)

    async def _consolidate(self, claim: Claim) -> None:
        try:
            kept = await self.episodes.get(claim.tenant, claim.episode_id)
            if kept is not None:
                await self._learn(claim.tenant, kept)
            claim.settled = True
        except ValueError as error:
            # Not as an episode is: a later try may find it whole. (What is away is no failure.)
            claim.failed = True
            metrics.inc("octarm_memory_consolidated_total", rule="failed")
            log.warning(
                "episode_not_consolidated", episode_id=claim.episode_id, error=type(error).__name__
            )

    async def _learn(self, tenant: str, kept: Kept) -> None:
        whole = fold(kept.base.body.encode(), kept.entries)
        episode = EpisodicMemory.model_validate_json(encode(whole))
        source = episode.arm_id or NOBODY
        digests = list(observations(episode))
        seen = {}
        if digests:
            seen = await self.agenda.see(tenant, source, episode.episode_id, digests)
        found = lessons(episode, seen)
        if found.unreadable:
            metrics.inc("octarm_memory_consolidated_total", found.unreadable, rule="unreadable")
        if found.memories:
            await self.remember(
                Remember(tenant=tenant, source=source, memories=list(found.memories)),
                promoted=True,
            )
        for memory in found.memories:
            metrics.inc("octarm_memory_consolidated_total", rule=str(memory.metadata["rule"]))
        if self.condense and (episode.observations or episode.actions or episode.outcomes):
            await self.condense(episode)
