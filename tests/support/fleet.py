"""A fleet in memory: what stands behind the gateway, without a bus."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from octarm.gateway.usecases.ports import Fleet, PassingChunk, StoredEvent
from octarm.models.arms import ArmCapability, ArmRecord
from octarm.models.commands import SubmitTask
from octarm.models.contracts import TaskContract, TaskSubmission
from octarm.models.episodes import (
    EpisodeForgotten,
    EpisodeFound,
    EpisodesFound,
    EpisodesWritten,
    EpisodeWritten,
    EpisodicMemory,
    FindEpisodes,
    WriteEpisodes,
)
from octarm.models.erasure import Erasure, Subject
from octarm.models.errors import (
    Backpressure,
    Conflict,
    NotFound,
    OctarmError,
    Problem,
    Unavailable,
)
from octarm.models.ids import new_id, with_prefix
from octarm.models.queries import (
    Accepted,
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
    MemoryHit,
    NewMemory,
    Reembedding,
    RememberAnswer,
    ScoreExplained,
    SearchMemory,
    SemanticMemory,
)
from octarm.models.shedding import SheddingFound, Switched, Switching
from octarm.models.states import TaskState, job_status
from octarm.models.upkeep import ListedMemory, ListMemories, MemoriesListed, MemoryCounts
from tests.support.fake_policies import FakePolicies
from tests.support.letters import FakeLetters

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def a_view(tenant: str, task_id: str, submission: TaskSubmission, state: TaskState) -> TaskView:
    """A task as the orchestrator shows it."""
    task = TaskContract(**submission.model_dump(), task_id=task_id, tenant=tenant, created_at=NOON)
    return TaskView(
        task_id=task_id,
        tenant=tenant,
        state=state,
        status=job_status(state),
        attempt=1,
        created_at=NOON,
        updated_at=NOON,
        task=task,
    )


class FakeTasks:
    """An orchestrator that accepts everything, once for each key, and runs nothing."""

    def __init__(self) -> None:
        self.requests: list[list[SubmitTask]] = []
        self.finds: list[FindTasks] = []
        self.cancelled: list[tuple[str, str]] = []
        self.views: dict[tuple[str, str], TaskView] = {}
        self.keys: dict[tuple[str, str], tuple[str, TaskSubmission]] = {}
        self.refuse_with: OctarmError | None = None
        self.delay_s = 0.0
        self.asked: list[str] = []
        self.demands: list[GetDemand] = []
        self.shed_now: list[Switched] = []

    @property
    def submitted(self) -> list[SubmitTask]:
        """Every task that came, in order."""
        return [task for request in self.requests for task in request]

    async def submit_many(self, tenant: str, tasks: Sequence[SubmitTask]) -> list[SubmitAnswer]:
        self.requests.append(list(tasks))
        await asyncio.sleep(self.delay_s)
        return [self._submit(tenant, task.submission) for task in tasks]

    def _submit(self, tenant: str, submission: TaskSubmission) -> SubmitAnswer:
        if self.refuse_with is not None:
            return SubmitAnswer(problem=self.refuse_with.problem())
        key = submission.idempotency_key
        known = self.keys.get((tenant, key)) if key else None
        if known is not None and known[1] != submission:
            error = Conflict("another task has this key", code="IDEMPOTENCY_CONFLICT")
            return SubmitAnswer(problem=error.problem())
        task_id = known[0] if known else self.add(tenant, submission)
        if key and known is None:
            self.keys[tenant, key] = (task_id, submission)
        accepted = Accepted(task_id=task_id, state=TaskState.QUEUED, created=known is None)
        return SubmitAnswer(accepted=accepted)

    def add(
        self,
        tenant: str = "default",
        submission: TaskSubmission | None = None,
        state: TaskState = TaskState.QUEUED,
    ) -> str:
        """Have a task; gives its id."""
        task_id = new_id("tsk")
        self.views[tenant, task_id] = a_view(
            tenant, task_id, submission or TaskSubmission(goal="x"), state
        )
        self.move(task_id, state, tenant)
        return task_id

    def move(self, task_id: str, state: TaskState, tenant: str = "default") -> None:
        """Put a task into a state."""
        ended = datetime.now(UTC) if state.is_terminal else None
        fields = {"state": state, "status": job_status(state), "terminal_at": ended}
        self.change(task_id, tenant, **fields)

    def change(self, task_id: str, tenant: str = "default", **fields: object) -> None:
        """Change what is known of a task."""
        view = self.views[tenant, task_id]
        self.views[tenant, task_id] = view.model_copy(update=fields)

    async def get(self, tenant: str, task_id: str) -> TaskView:
        view = self.views.get((tenant, task_id))
        if view is None:
            raise NotFound(f"there is no task {task_id}")
        return view

    async def find(self, query: FindTasks) -> TasksFound:
        self.finds.append(query)
        own = [view for (tenant, _), view in self.views.items() if tenant == query.tenant]
        return TasksFound(tasks=own[: query.limit])

    async def states(self, tenant: str, task_ids: Sequence[str]) -> dict[str, Outcome]:
        self.asked.extend(task_ids)
        if isinstance(self.refuse_with, Unavailable):
            raise self.refuse_with
        return {
            task_id: Outcome(task_id=task_id, state=self.views[tenant, task_id].state)
            for task_id in task_ids
            if (tenant, task_id) in self.views
        }

    async def demand(self, arm: GetDemand) -> ArmDemand:
        self.demands.append(arm)
        return ArmDemand(arm_id=arm.arm_id, runnable_slots=17, running_slots=4)

    async def shedding(self) -> SheddingFound:
        return SheddingFound(now=self.shed_now, past=self.shed_now)

    async def shed(self, wanted: Switching, by: str) -> SheddingFound:
        put = wanted.model_dump(exclude={"seconds"})
        self.shed_now.append(Switched(**put, by=by, at=NOON))
        return await self.shedding()

    async def cancel(self, tenant: str, task_id: str, reason: str = "") -> Cancelled:
        await self.get(tenant, task_id)
        self.cancelled.append((task_id, reason))
        self.move(task_id, TaskState.CANCELLED, tenant)
        return Cancelled(task_id=task_id, state=TaskState.CANCELLED)


class FakeQueue:
    """A scheduler with one waiting task of each of two tenants."""

    def __init__(self) -> None:
        self.away = False

    async def queue(self, shard: int = 0) -> QueueView:
        return QueueView(
            shard=shard,
            leader="s-1",
            policy="priority",
            queued=2,
            by_tier={"interactive": 2},
            by_tenant={"default": 1, "acme": 1},
            blocked={"no arm": 2},
            oldest_wait_s=1.5,
            in_flight={},
        )

    async def why_waiting(self, task_id: str, shard: int = 0) -> Waiting:
        if self.away:
            raise Unavailable("no scheduler leads the shard")
        return Waiting(task_id=task_id, position=3, reason="every capable arm is full")


class FakeArms:
    """A registry with one arm."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.drained: list[tuple[str, str]] = []
        arm = ArmCapability(arm_id="echo", name="Echo", capabilities=frozenset({"echo"}))
        self.record = ArmRecord(
            arm=arm, status="online", registered_at=NOON, changed_at=NOON, owner="f" * 64
        )

    async def get(self, arm_id: str) -> ArmRecord:
        if arm_id != self.record.arm.arm_id:
            raise NotFound(f"there is no arm {arm_id}", code="ARM_NOT_FOUND")
        return self.record

    async def find(self, capabilities: Iterable[str] = ()) -> list[ArmRecord]:
        self.asked.append(list(capabilities))
        return [self.record] if self.record.arm.capabilities >= set(capabilities) else []

    async def drain(self, arm_id: str, key: str = "") -> ArmRecord:
        self.drained.append((arm_id, key))
        return (await self.get(arm_id)).model_copy(update={"status": "draining"})


class FakeEpisodes:
    """A memory of one episode for each task that is asked for."""

    def __init__(self) -> None:
        self.finds: list[FindEpisodes] = []
        self.writes: list[WriteEpisodes] = []
        self.forgotten: list[tuple[str, str]] = []
        self.refusal: Problem | None = None

    async def write_episodes(self, wanted: WriteEpisodes) -> EpisodesWritten:
        self.writes.append(wanted)
        answer = EpisodeWritten(created=True, durable=True, problem=self.refusal)
        return EpisodesWritten(answers=[answer] * len(wanted.writes))

    async def forget_episode(self, tenant: str, episode_id: str) -> EpisodeForgotten:
        self.forgotten.append((tenant, episode_id))
        return EpisodeForgotten(changed=True)

    def _episode(self, tenant: str, episode_id: str) -> EpisodicMemory:
        return EpisodicMemory(
            episode_id=episode_id,
            tenant=tenant,
            arm_id="echo",
            task_id=with_prefix("tsk", episode_id),
            created_at=NOON,
        )

    async def get_episode(self, tenant: str, episode_id: str) -> EpisodeFound:
        return EpisodeFound(episode=self._episode(tenant, episode_id), source="redis")

    async def find_episodes(self, query: FindEpisodes) -> EpisodesFound:
        self.finds.append(query)
        return EpisodesFound(episodes=[self._episode(query.tenant, new_id("epi"))])


class FakeKnowledge:
    """A semantic memory that knows by id, and finds what has the query's words."""

    def __init__(self) -> None:
        self.memories: dict[tuple[str, str], SemanticMemory] = {}
        self.searches: list[SearchMemory] = []
        self.reembedding = False

    async def remember(
        self, tenant: str, source: str, memories: Sequence[NewMemory]
    ) -> list[RememberAnswer]:
        return [self._keep(tenant, source, one) for one in memories]

    def _keep(self, tenant: str, source: str, one: NewMemory) -> RememberAnswer:
        memory_id = one.memory_id or new_id("mem")
        fields = one.model_dump(
            include={"entity_type", "content", "metadata", "confidence", "tags"}
        )
        self.memories[tenant, memory_id] = SemanticMemory(
            memory_id=memory_id, tenant=tenant, source=source, timestamp=NOON, **fields
        )
        return RememberAnswer(memory_id=memory_id, outcome="created")

    async def search(self, query: SearchMemory) -> MemoriesFound:
        self.searches.append(query)
        hits = [
            MemoryHit(memory=one, score=0.5, explanation=ScoreExplained(text_rank=1))
            for (tenant, _), one in self.memories.items()
            if tenant == query.tenant and query.query in one.content
        ]
        return MemoriesFound(hits=hits[: query.k])

    async def get(self, tenant: str, memory_id: str, *, history: bool = False) -> MemoryFound:
        found = self.memories.get((tenant, memory_id))
        if found is None:
            raise NotFound(f"no memory {memory_id}", code="MEMORY_NOT_FOUND")
        return MemoryFound(memory=found, history=[found] if history else [])

    async def forget(self, tenant: str, memory_id: str) -> int:
        return int(self.memories.pop((tenant, memory_id), None) is not None)

    async def reembed(self, *, start: bool = False) -> Reembedding:
        self.reembedding = self.reembedding or start
        left = len(self.memories)
        return Reembedding(
            embedder="tiny", dimension=8, running=self.reembedding, total=left, left=left
        )


class FakeUpkeep:
    """Lists one memory, and counts it."""

    def __init__(self) -> None:
        self.queries: list[ListMemories] = []
        self.erasures: dict[tuple[str, str], Erasure] = {}

    async def list(self, query: ListMemories) -> MemoriesListed:
        self.queries.append(query)
        listed = ListedMemory(
            memory_id=new_id("mem"),
            entity_type="fact",
            source="writer",
            timestamp=NOON,
            confidence=1.0,
            tags=query.tags,
            metadata={},
            content_hash="0" * 64,
        )
        return MemoriesListed(memories=[listed])

    async def count(self, tenant: str) -> MemoryCounts:
        return MemoryCounts(memories=1, by_type={"fact": 1}, by_source={tenant: 1})

    async def erase(self, tenant: str, subject: Subject) -> Erasure:
        begun = Erasure(
            erasure_id=f"era_{len(self.erasures):032x}",
            kind=subject.kind,
            state="running",
            subject_sha256="0" * 64,
            begun_at=NOON,
        )
        self.erasures[tenant, begun.erasure_id] = begun
        return begun

    async def erasure(self, tenant: str, erasure_id: str) -> Erasure:
        found = self.erasures.get((tenant, erasure_id))
        if found is None:
            raise NotFound(f"no erasure {erasure_id}", code="ERASURE_NOT_FOUND")
        return found


class FakeEvents:
    """The history of tasks as a list; `say` adds to it and wakes who follows."""

    def __init__(self) -> None:
        self.stored: list[StoredEvent] = []
        self.kept: datetime | None = None
        self.following = 0
        self._queues: set[asyncio.Queue[StoredEvent | PassingChunk]] = set()
        self._ended: set[asyncio.Event] = set()

    def say(self, verb: str, body: bytes = b"{}") -> None:
        """Store an event."""
        event = StoredEvent(len(self.stored) + 1, verb, body)
        self.stored.append(event)
        for queue in self._queues:
            queue.put_nowait(event)

    def chunk(self, body: bytes) -> None:
        """Let a chunk pass."""
        for queue in self._queues:
            queue.put_nowait(PassingChunk(body))

    def hint(self) -> None:
        """Raise every flag for an ending."""
        for flag in self._ended:
            flag.set()

    async def verb_at(self, place: int, task_id: str) -> str | None:
        return next((event.verb for event in self.stored if event.place == place), None)

    async def kept_since(self) -> datetime | None:
        return self.kept

    @asynccontextmanager
    async def follow(
        self, tenant: str, task_id: str, *, after: int, since: datetime
    ) -> AsyncIterator[AsyncIterator[StoredEvent | PassingChunk]]:
        queue: asyncio.Queue[StoredEvent | PassingChunk] = asyncio.Queue()
        for event in self.stored[after:]:
            queue.put_nowait(event)
        self._queues.add(queue)
        self.following += 1
        try:
            yield _Taking(queue)
        finally:
            self.following -= 1
            self._queues.discard(queue)

    @asynccontextmanager
    async def endings(self, tenant: str, task_id: str) -> AsyncIterator[asyncio.Event]:
        flag = asyncio.Event()
        self._ended.add(flag)
        try:
            yield flag
        finally:
            self._ended.discard(flag)


@dataclass
class _Taking:
    queue: "asyncio.Queue[StoredEvent | PassingChunk]"

    def __aiter__(self) -> "_Taking":
        return self

    async def __anext__(self) -> StoredEvent | PassingChunk:
        return await self.queue.get()


@dataclass
class FakeFleet:
    """All of it; `fleet` is what the gateway gets."""

    tasks: FakeTasks = field(default_factory=FakeTasks)
    queue: FakeQueue = field(default_factory=FakeQueue)
    arms: FakeArms = field(default_factory=FakeArms)
    episodes: FakeEpisodes = field(default_factory=FakeEpisodes)
    knowledge: FakeKnowledge = field(default_factory=FakeKnowledge)
    upkeep: FakeUpkeep = field(default_factory=FakeUpkeep)
    events: FakeEvents = field(default_factory=FakeEvents)
    letters: FakeLetters = field(default_factory=FakeLetters)
    policies: FakePolicies = field(default_factory=FakePolicies)

    @property
    def fleet(self) -> Fleet:
        """The ports, filled."""
        return Fleet(
            self.tasks,
            self.queue,
            self.arms,
            self.episodes,
            self.knowledge,
            self.upkeep,
            self.events,
            self.letters,
            self.policies,
        )


FULL = Backpressure("the queue is full", retry_after_s=7)
