"""Policies that are deployed to a scheduler: hostile ones, good ones, fifty in a row."""

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import msgspec
import pytest

from octarm.common.bus.publisher import Fence
from octarm.common.telemetry import metrics
from octarm.common.testing.fakes import FakeClock, RecordingPublisher
from octarm.models.errors import Unavailable
from octarm.models.hot import RunTasks
from octarm.models.ids import new_id
from octarm.models.policies import DifferencesFound, PolicyVersion, SavePolicy
from octarm.policies import book as books
from octarm.policies.book import Act, Book
from octarm.policies.sandbox.engine import Engine
from octarm.policies.sandbox.limits import Limits
from octarm.policies.store.store import PolicyStore
from octarm.policies.supervisor import PLATFORM
from octarm.policies.versions import digest
from octarm.scheduler.policies.deployed import DeployedPolicies
from octarm.scheduler.usecases.dispatch import Dispatch
from tests.support.scheduler_stage import a_bus, a_scheduler
from tests.support.scheduling import NOON_S, a_desk, a_placer, facts, ready, waiting
from tests.support.wait import wait_until

pytestmark = pytest.mark.integration

GOOD = "def schedule(ctx):\n    return platform_schedule(ctx)\n"
LAZY = "def schedule(ctx):\n    return []\n"
HOSTILE = {
    "infinite loop": ("for i in range(1 << 30): pass", "timeout"),
    "nested ranges": ("for i in range(1 << 30):\n        for j in range(1 << 30): pass", "timeout"),
    "doubling list": ("x = [0]\n    for i in range(64): x += x", "memory"),
    "long string": ("x = 'x' * (1 << 30)", "memory"),
    "recursion": ("schedule(ctx)", "error"),
    "huge return": ("return [wait('x' * 200)] * 9999", "bad_return"),
    "no list": ("return 7", "bad_return"),
    "exception": ("fail('on purpose')", "error"),
    "division": ("return [1 // 0]", "error"),
    "unknown time": ("return [time.now()]", "error"),
    "random": ("return [random()]", "error"),
    "a gigabyte of output": ("for i in range(1 << 20): print('x' * 1024)", "timeout"),
}
INVALID = """
def schedule(ctx):
    task, arm = ctx.queue[0].id, ctx.arms[0].id
    return [
        dispatch("nobody", arm), dispatch(task, "nowhere"), dispatch(task, arm),
        dispatch(task, arm), reject("nobody"), evict("nobody"), start("nowhere"),
    ]
"""


def a_version(source: str, name: str = "mine") -> PolicyVersion:
    now = datetime(2026, 11, 21, tzinfo=UTC)
    return PolicyVersion(
        digest=digest(source),
        name=name,
        kind="starlark",
        size_bytes=len(source),
        created_at=now,
        created_by="ops",
        source=source,
    )


def an_act() -> Act:
    return Act(event_id=new_id("evt"), at=datetime.now(UTC), by="ops")


@dataclass
class FakeStore:
    """A store that is here."""

    sources: dict[str, PolicyVersion] = field(default_factory=dict)
    book: Book = field(default_factory=Book)
    trips: list[tuple[str, str, str]] = field(default_factory=list)

    def deploy(self, source: str) -> Book:
        self._know(source)
        self.book, _ = books.deploy(self.book, digest(source), an_act())
        return self.book

    def shadow(self, source: str | None) -> Book:
        if source is not None:
            self._know(source)
        wanted = None if source is None else digest(source)
        self.book, _ = books.shadow(self.book, wanted, an_act())
        return self.book

    def _know(self, source: str) -> None:
        version = a_version(source)
        self.sources[version.digest] = version
        self.book = replace(self.book, versions={**self.book.versions, version.digest: version})

    async def source(self, digest: str) -> PolicyVersion:
        return self.sources[digest]

    async def watch(self, on_change: Callable[[Book], Awaitable[None]]) -> None:
        await on_change(self.book)
        await asyncio.Event().wait()

    async def trip(self, digest: str, to: str, because: str) -> None:
        self.trips.append((digest, to, because))
        self.book, _ = books.trip(self.book, to, because, an_act())


class Stage:
    """A shard with room for everything, and what was deployed."""

    def __init__(self, store: FakeStore, deployed: DeployedPolicies) -> None:
        self.store, self.deployed = store, deployed
        self.desk = a_desk(facts("one"), facts("two"), slots=99)
        self.bus = RecordingPublisher()
        dispatch = Dispatch(self.desk, self.bus, Fence("x", 1))
        self.placer = a_placer(self.desk, dispatch, deployed)
        self.number = 0

    async def cycle(self, tasks: int = 2) -> list[str]:
        """Let so many tasks come, run a cycle; gives the policies that placed."""
        for _ in range(tasks):
            self.number += 1
            self.desk.queue.add(waiting(ready(self.number)), now=NOON_S)
        before = len(self.bus.published)
        await self.placer.cycle()
        bundles = [
            msgspec.json.decode(it.payload, type=RunTasks) for it in self.bus.published[before:]
        ]
        return [bundle.policy for bundle in bundles for _ in bundle.tasks]


@asynccontextmanager
async def a_stage() -> AsyncGenerator[Stage, None]:
    store = FakeStore()
    limits = Limits(call_ms=100, grace_ms=5_000, load_ms=5_000)
    async with DeployedPolicies(
        store, clock=FakeClock(), engine=lambda: Engine(limits)
    ) as deployed:
        yield Stage(store, deployed)


def named(source: str) -> str:
    return f"mine@{digest(source)}"


async def test_without_a_script_there_is_no_child_process() -> None:
    async with a_stage() as stage:
        await stage.deployed.follow(stage.store.book)

        assert await stage.cycle() == ["priority"] * 2
        assert stage.deployed.pids == []


async def test_children_end_with_the_last_script() -> None:
    async with a_stage() as stage:
        await stage.deployed.follow(stage.store.deploy(GOOD))
        assert await stage.cycle() == [named(GOOD)] * 2
        assert _failures(GOOD, "timeout") == 0, "there, so that the first one is seen"
        pids = stage.deployed.pids

        stage.store.book, _ = books.roll_back(stage.store.book, an_act())
        await stage.deployed.follow(stage.store.book)

        assert await stage.cycle() == ["priority"] * 2
        assert pids
        assert not any(_runs(pid) for pid in pids)


@pytest.mark.parametrize("kind", HOSTILE)
async def test_a_hostile_script_costs_a_cycle_nothing_and_is_taken_back(kind: str) -> None:
    body, reason = HOSTILE[kind]
    bad = f"def schedule(ctx):\n    {body}\n    return []\n"
    async with a_stage() as stage:
        await stage.deployed.follow(stage.store.deploy(GOOD))
        await stage.cycle()
        await stage.deployed.follow(stage.store.deploy(bad))
        if stage.store.trips:
            # It was found out when it was loaded.
            assert "cannot be loaded" in stage.store.trips[0][2]
        else:
            failing = [await stage.cycle() for _ in range(3)]
            await wait_until(lambda: stage.store.trips)
            assert failing == [["fair_share"] * 2] * 3
            assert stage.store.trips[0][2].endswith(reason)

        assert stage.store.trips[0][:2] == (digest(bad), digest(GOOD))
        assert await stage.cycle() == [named(GOOD)] * 2
        assert len(stage.desk.queue) == 0


async def test_invalid_actions_are_dropped_and_the_valid_one_is_done() -> None:
    async with a_stage() as stage:
        await stage.deployed.follow(stage.store.deploy(INVALID))

        assert await stage.cycle() == [named(INVALID)]
        assert len(stage.desk.queue) == 1


async def test_a_new_process_knows_what_to_go_back_to() -> None:
    bad = "def schedule(ctx):\n    fail('no')\n"
    async with a_stage() as stage:
        stage.store.deploy(GOOD)
        await stage.deployed.follow(stage.store.deploy(bad))
        for _ in range(3):
            await stage.cycle()
        await wait_until(lambda: stage.store.trips)
        await stage.deployed.follow(stage.store.book)

        assert stage.store.trips[0][1] == digest(GOOD)
        assert await stage.cycle() == [named(GOOD)] * 2


async def test_a_shadow_is_asked_and_decides_nothing() -> None:
    async with a_stage() as stage:
        await stage.deployed.follow(stage.store.shadow(LAZY))

        assert await stage.cycle() == ["priority"] * 2
        await wait_until(lambda: stage.deployed.watching)
        host = stage.deployed._host
        assert host is not None
        assert (host.tally.cycles, host.tally.only_live) == (1, 2)
        told = stage.deployed.differences()
        assert (told.shadow, told.cycles, told.placed_live) == (named(LAZY), 1, 2)
        assert [it.shadow for it in told.differences] == ["(waits)"] * 2
        assert stage.deployed.active == PLATFORM

        await stage.deployed.follow(stage.store.shadow(None))
        assert not stage.deployed.watching
        assert stage.deployed.differences() == DifferencesFound()
        assert stage.deployed.active == PLATFORM


async def test_a_book_is_followed_until_the_end() -> None:
    async with a_stage() as stage:
        changed = asyncio.Event()
        stage.deployed.changed = changed.set
        stage.store.deploy(GOOD)
        running = asyncio.create_task(stage.deployed.run())

        await changed.wait()

        assert stage.deployed.deciding
        running.cancel()
        await asyncio.wait({running})


async def test_says_so_when_no_child_process_can_be_had() -> None:
    class Broken(Engine):
        async def __aenter__(self) -> Engine:
            raise OSError("no more processes")

    store = FakeStore()
    async with DeployedPolicies(store, engine=Broken) as deployed:
        with pytest.raises(Unavailable, match="no child process"):
            await deployed.follow(store.deploy(GOOD))
        assert not deployed.deciding
        assert (await deployed.decide(None)).policy == "platform"  # type: ignore[arg-type]


async def test_fifty_versions_under_load_lose_nothing_and_place_nothing_twice(
    nats_url: str,
) -> None:
    async with a_bus(nats_url) as bus, a_scheduler(bus):
        store = PolicyStore(bus.nc, bus.publisher)
        await bus.arm("one", slots=5_000)
        sent: list[str] = []
        names = set()
        for number in range(50):
            source = f"{GOOD}# {number}\n"
            names.add(f"v-{number}@{digest(source)}")
            saving = SavePolicy(name=f"v-{number}", kind="starlark", source=source, by="ops")
            await store.save(saving, an_act())
            await store.deploy(digest(source), an_act())
            sent += await bus.ready(*[{}] * 40)
        await wait_until(lambda: len(bus.ids()) >= len(sent), timeout_s=20)
        last = {bundle.policy for bundle in bus.seen.bundles}
        await wait_until(lambda: _decides(bus.seen.bundles, f"v-49@{digest(source)}", bus.ready))

    placed = bus.ids()
    assert len(placed) == len(set(placed))
    assert set(sent) <= set(placed)
    assert last <= names | {"priority", "fair_share"}
    assert len(last & names) > 5


async def _decides(
    bundles: list[RunTasks], policy: str, ready: Callable[..., Awaitable[list[str]]]
) -> bool:
    await ready({})
    return any(bundle.policy == policy for bundle in bundles)


def _failures(source: str, reason: str) -> float | None:
    labels = {"policy": named(source), "reason": reason}
    return metrics.registry.get_sample_value("octarm_scheduler_policy_errors_total", labels)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
