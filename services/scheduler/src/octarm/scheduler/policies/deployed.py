"""The policies that were deployed, as the leaders of this process ask them.

Child processes exist only while there is a script to be asked.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Final, Protocol

from octarm.common.cancelling import end
from octarm.common.clock import Clock, SystemClock
from octarm.common.telemetry import get_logger, metrics
from octarm.models.errors import Unavailable
from octarm.models.policies import DifferencesFound, PolicyVersion
from octarm.policies.actions import Checked
from octarm.policies.book import Book
from octarm.policies.context import Context
from octarm.policies.desk.differing import found
from octarm.policies.problems import Loaded
from octarm.policies.sandbox.engine import Engine
from octarm.policies.sandbox.host import Host, Verdict
from octarm.policies.sandbox.process import Died
from octarm.policies.supervisor import PLATFORM

LOADING: Final = "cannot be loaded"

log = get_logger()


class Store(Protocol):
    """The part of the store of policies that is needed."""

    async def source(self, digest: str) -> PolicyVersion:
        """Give a version with its source."""
        ...

    async def watch(self, on_change: Callable[[Book], Awaitable[None]]) -> None:
        """Call with the book at once, and again whenever it is another; endless."""
        ...

    async def trip(self, digest: str, to: str, because: str) -> object:
        """Take back a version that fails, if it is still the one that decides."""
        ...


class DeployedPolicies:
    """Follows the book; one engine and one supervisor serve all shards of the process.

    What was decided while another version came names the one that decided. Use as a context
    manager; leaving it ends the child processes.
    """

    def __init__(
        self, store: Store, *, clock: Clock | None = None, engine: Callable[[], Engine] = Engine
    ) -> None:
        self._store = store
        self._clock = clock or SystemClock()
        self._make_engine = engine
        self._host: Host | None = None
        self._open = AsyncExitStack()
        self._names: dict[str, str] = {}
        self._shadow = ""
        self._asking = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._comparing: asyncio.Task[None] | None = None
        self.changed: Callable[[], None] = lambda: None

    async def __aenter__(self) -> "DeployedPolicies":
        return self

    async def __aexit__(self, *_: object) -> None:
        await end(*self._tasks)
        await self._close()

    async def run(self) -> None:
        """Follow the book until cancelled."""
        await self._store.watch(self.follow)

    @property
    def deciding(self) -> bool:
        """Whether a script is to be asked."""
        return self._host is not None and self._host.supervisor.active != PLATFORM

    @property
    def watching(self) -> bool:
        """Whether a shadow is to be told, and has time."""
        host, comparing = self._host, self._comparing
        return host is not None and host.watching and (comparing is None or comparing.done())

    @property
    def pids(self) -> list[int]:
        """The child processes, for those who want to know what they take."""
        return self._engine.pids if self._host is not None else []

    @property
    def active(self) -> str:
        """Name what decides."""
        return PLATFORM if self._host is None else self.name(self._host.supervisor.active)

    def name(self, version: str) -> str:
        """Give name@digest."""
        return self._names.get(version, version)

    def differences(self) -> DifferencesFound:
        """Say how the shadow has differed from what decides."""
        host = self._host if self._shadow else None
        return DifferencesFound() if host is None else found(self.name(self._shadow), host.tally)

    async def follow(self, book: Book) -> None:
        """Let what the book says decide and watch from the next cycle on.

        Raises:
            Unavailable: the store or the child processes are not there now.
        """
        if book.live is None and book.shadow is None:
            await self._close()
        else:
            host = await self._opened()
            await self._follow_live(host, book)
            await self._follow_shadow(host, book)
            for digest in self._engine.policies - book.versions.keys():
                self._engine.forget(digest)
        self.changed()

    async def decide(self, seen: Context) -> Verdict:
        """Ask the version that decides, and count what comes of it."""
        host = self._host
        if host is None:
            return Verdict(PLATFORM)
        self._asking += 1
        self._idle.clear()
        try:
            verdict = await host.decide(seen)
        finally:
            self._asking -= 1
            if not self._asking:
                self._idle.set()
        if verdict.decided is not None:
            metrics.observe("octarm_scheduler_policy_seconds", verdict.decided.took_ms / 1000)
        if (failed := verdict.failed) is not None:
            self._failed(verdict.policy, failed.reason, failed.traceback)
        if (switched := verdict.switched) is not None:
            log.error("policy_tripped", policy=self.name(switched.before), now=switched.now)
            self._soon(self._store.trip(switched.before, switched.now, switched.because))
        return verdict

    def show(self, seen: Context, decided: Checked) -> None:
        """Let the shadow compare, beside everything else."""
        if self._host is not None:
            self._comparing = self._soon(self._compare(self._host, seen, decided))

    async def _compare(self, host: Host, seen: Context, decided: Checked) -> None:
        tally = host.tally
        before = (tally.cycles_equal, sum(tally.failures.values()))
        await host.compare(seen, decided)
        equal, failed = tally.cycles_equal, sum(tally.failures.values())
        outcome = "equal" if equal > before[0] else "failed" if failed > before[1] else "different"
        metrics.inc(
            "octarm_scheduler_shadow_total", policy=self.name(self._shadow), outcome=outcome
        )

    async def _follow_live(self, host: Host, book: Book) -> None:
        live = book.live
        if live == host.supervisor.active or (live is None and not self.deciding):
            return
        if live is None:
            host.retire()
            log.info("policy_retired")
            return
        before = await self._before(book)
        loaded = await self._load(live, self._engine.load)
        if loaded.ok:
            if before is not None:
                host.supervisor.deploy(before)
                host.supervisor.decided(before)
            host.supervisor.deploy(live)
        else:
            text = loaded.problems[0].message if loaded.problems else ""
            self._failed(live, "error", text)
            await self._store.trip(live, host.supervisor.active, f"{LOADING}: {text}"[:1000])
            return
        log.info("policy_deployed", policy=self.name(live))

    async def _before(self, book: Book) -> str | None:
        """Give the version to go back to, if this process has not seen it decide.

        Whoever deployed the next one has.
        """
        before = book.deployments[0].replaces
        if self.deciding or before is None or before not in book.versions or before in book.tripped:
            return None
        return before if (await self._load(before, self._engine.load)).ok else None

    async def _follow_shadow(self, host: Host, book: Book) -> None:
        if book.shadow is None:
            host.unwatch()
            self._shadow = ""
        elif book.shadow != self._shadow and (await self._load(book.shadow, host.watch)).ok:
            self._shadow = book.shadow
            log.info("policy_shadowed", policy=self.name(book.shadow))

    async def _load(self, digest: str, take: Callable[..., Awaitable[Loaded]]) -> Loaded:
        version = await self._store.source(digest)
        self._names[digest] = name = f"{version.name}@{digest}"
        metrics.begin_of("octarm_scheduler_policy_errors_total", policy=name)
        return await take(version.source, version.kind)

    async def _opened(self) -> Host:
        if self._host is None:
            engine = self._make_engine()
            try:
                await self._open.enter_async_context(engine)
            except (Died, OSError) as error:
                raise Unavailable(f"no child process for policies: {error}") from error
            self._engine, self._host = engine, Host(engine, self._clock)
        return self._host

    async def _close(self) -> None:
        self._host, self._shadow = None, ""
        if self._comparing is not None:
            self._comparing.cancel()
            await asyncio.wait({self._comparing})
            self._comparing = None
        # A call is bounded by the limits of the engine.
        await self._idle.wait()
        await self._open.aclose()

    def _failed(self, version: str, reason: str, text: str) -> None:
        name = self.name(version)
        metrics.inc("octarm_scheduler_policy_errors_total", policy=name, reason=reason)
        log.warning("policy_failed", policy=name, reason=reason, traceback=text[:2000])

    def _soon(self, work: Awaitable[object]) -> "asyncio.Task[None]":
        async def run() -> None:
            try:
                await work
            except Unavailable as error:
                log.warning("policies_not_reached", error=error.message)

        task = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
