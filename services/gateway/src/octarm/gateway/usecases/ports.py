"""What the gateway needs of the fleet; `octarm.clients` and `storage` fill the roles."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, Self

from octarm.common.bus.dead_letter_box import Handled, StoredLetter, Wanted
from octarm.models import policies
from octarm.models.arms import ArmRecord
from octarm.models.commands import SubmitTask
from octarm.models.episodes import (
    EpisodeForgotten,
    EpisodeFound,
    EpisodesFound,
    EpisodesWritten,
    FindEpisodes,
    WriteEpisodes,
)
from octarm.models.erasure import Erasure, Subject
from octarm.models.queries import (
    Cancelled,
    FindTasks,
    Outcome,
    QueueView,
    SubmitAnswer,
    TasksFound,
    TaskView,
    Waiting,
)
from octarm.models.scaling import ArmDemand, GetDemand
from octarm.models.semantic import (
    MemoriesFound,
    MemoryFound,
    NewMemory,
    Reembedding,
    RememberAnswer,
    SearchMemory,
)
from octarm.models.shedding import SheddingFound, Switching
from octarm.models.upkeep import ListMemories, MemoriesListed, MemoryCounts


class Tasks(Protocol):
    """The orchestrator."""

    async def submit_many(self, tenant: str, tasks: Sequence[SubmitTask]) -> list[SubmitAnswer]:
        """Submit tasks; one answer each, in order; raises nothing."""
        ...

    async def get(self, tenant: str, task_id: str) -> TaskView:
        """Show one task."""
        ...

    async def find(self, query: FindTasks) -> TasksFound:
        """List a page of tasks."""
        ...

    async def states(self, tenant: str, task_ids: Sequence[str]) -> dict[str, Outcome]:
        """Give the outcome of each task that exists."""
        ...

    async def cancel(self, tenant: str, task_id: str, reason: str = "") -> Cancelled:
        """Call a task off."""
        ...

    async def demand(self, arm: GetDemand) -> ArmDemand:
        """Say how much work there is for an arm."""
        ...

    async def shedding(self) -> SheddingFound:
        """Say what is shed."""
        ...

    async def shed(self, wanted: Switching, by: str) -> SheddingFound:
        """Put the switch."""
        ...


class Queue(Protocol):
    """The scheduler."""

    async def queue(self, shard: int = 0) -> QueueView:
        """Show what waits at a shard."""
        ...

    async def why_waiting(self, task_id: str, shard: int = 0) -> Waiting:
        """Say why a task has not been placed."""
        ...


class Arms(Protocol):
    """The arm registry."""

    async def get(self, arm_id: str) -> ArmRecord:
        """Show one arm."""
        ...

    async def find(self, capabilities: Iterable[str] = ()) -> list[ArmRecord]:
        """List the arms that have every one of these tags."""
        ...

    async def drain(self, arm_id: str, key: str = "") -> ArmRecord:
        """Place no more work on an arm."""
        ...


class Episodes(Protocol):
    """The memory service."""

    async def get_episode(self, tenant: str, episode_id: str) -> EpisodeFound:
        """Show one episode."""
        ...

    async def find_episodes(self, query: FindEpisodes) -> EpisodesFound:
        """List a page of episodes."""
        ...

    async def write_episodes(self, wanted: WriteEpisodes) -> EpisodesWritten:
        """Write entries; one answer each, in order."""
        ...

    async def forget_episode(self, tenant: str, episode_id: str) -> EpisodeForgotten:
        """Delete an episode everywhere."""
        ...


class Upkeep(Protocol):
    """All that memory holds."""

    async def list(self, query: ListMemories) -> MemoriesListed:
        """Give a page of memories."""
        ...

    async def count(self, tenant: str) -> MemoryCounts:
        """Count what a tenant's memory holds."""
        ...

    async def erase(self, tenant: str, subject: Subject) -> Erasure:
        """Begin to erase all about a subject."""
        ...

    async def erasure(self, tenant: str, erasure_id: str) -> Erasure:
        """Show a receipt."""
        ...


class Knowledge(Protocol):
    """Semantic memory."""

    async def remember(
        self, tenant: str, source: str, memories: Sequence[NewMemory]
    ) -> list[RememberAnswer]:
        """Keep memories; one answer each, in order."""
        ...

    async def search(self, query: SearchMemory) -> MemoriesFound:
        """Find the memories that fit best."""
        ...

    async def get(self, tenant: str, memory_id: str, *, history: bool = False) -> MemoryFound:
        """Show one memory."""
        ...

    async def forget(self, tenant: str, memory_id: str) -> int:
        """Delete one memory with its history; gives the number of rows."""
        ...

    async def reembed(self, *, start: bool = False) -> Reembedding:
        """Say how far vectors of the embedder in use are, or have all made by it."""
        ...


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event of a task and its place in the stream."""

    place: int
    verb: str
    body: bytes


@dataclass(frozen=True, slots=True)
class PassingChunk:
    """A piece of output that nobody stores."""

    body: bytes


class TaskEvents(Protocol):
    """The history of tasks, and what is said about them at the moment."""

    async def verb_at(self, place: int, task_id: str) -> str | None:
        """Give the verb of a task's event at a place, None when it is not kept (any more)."""
        ...

    async def kept_since(self) -> datetime | None:
        """Say from when on events are kept, None when there are none."""
        ...

    def follow(
        self, tenant: str, task_id: str, *, after: int, since: datetime
    ) -> AbstractAsyncContextManager[AsyncIterator[StoredEvent | PassingChunk]]:
        """Give the events behind a place, in order and without a gap, then new ones.

        Nothing was told before `since`. Chunks come in between and may be lost. Leaving the
        block frees everything.
        """
        ...

    def endings(self, tenant: str, task_id: str) -> AbstractAsyncContextManager[asyncio.Event]:
        """Give a flag that is raised when the task may have ended; a hint, it can be lost."""
        ...


class Letters(Protocol):
    """The dead letters."""

    async def last_seq(self) -> int:
        """Give the sequence of the newest letter there ever was."""
        ...

    def find(self, wanted: Wanted, *, after: int, until: int) -> AsyncGenerator[StoredLetter, None]:
        """Yield the wanted letters between two sequences, oldest first, without bodies."""
        ...

    async def get(self, seq: int) -> StoredLetter | None:
        """Give one letter with its body."""
        ...

    async def redrive(self, seqs: Sequence[int]) -> list[Handled]:
        """Send letters back where they came from."""
        ...

    async def drop(self, seqs: Sequence[int]) -> list[Handled]:
        """Throw letters away."""
        ...


class Policies(Protocol):
    """The policies that schedulers keep."""

    def named(self, by: str) -> Self:
        """Act in this name."""
        ...

    async def save(
        self, name: str, source: str, *, kind: policies.PolicyKind = "starlark", note: str = ""
    ) -> policies.PolicySaved:
        """Keep a version."""
        ...

    async def validate(
        self, source: str, kind: policies.PolicyKind = "starlark"
    ) -> policies.PolicyValidated:
        """Say what is wrong with a source."""
        ...

    async def list(self, name: str | None = None) -> policies.PoliciesFound:
        """List versions and deployments."""
        ...

    async def get(self, ref: str) -> policies.PolicyVersion:
        """Show a version."""
        ...

    async def deploy(self, ref: str) -> policies.PolicyDeployed:
        """Let a version decide."""
        ...

    async def shadow(self, ref: str | None) -> policies.PolicyDeployed:
        """Let a version be asked too; None ends that."""
        ...

    async def differences(self, shard: int = 0) -> policies.DifferencesFound:
        """Say how the shadow has differed from what decides."""
        ...

    async def roll_back(self) -> policies.PolicyDeployed:
        """Let the version before decide."""
        ...

    async def delete(self, ref: str) -> policies.PolicyDeleted:
        """Forget a version."""
        ...

    async def simulate(self, wanted: policies.SimulatePolicy) -> policies.PolicySimulated:
        """Run policies in virtual time."""
        ...


@dataclass(frozen=True, slots=True)
class Fleet:
    """Everything behind the API."""

    tasks: Tasks
    queue: Queue
    arms: Arms
    episodes: Episodes
    knowledge: Knowledge
    upkeep: Upkeep
    events: TaskEvents
    letters: Letters
    policies: Policies
