"""One run: the whole system in one thread on virtual time, and what may happen to it."""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import structlog

from octarm.common.bus.connection import connected_to
from octarm.common.bus.topology import provision
from octarm.models import hot
from octarm.models.errors import OctarmError
from octarm.models.ids import Prefix, typeid, uuid7
from octarm.models.subjects import DISPATCH, INTAKE, LEAD_SHARD, READY, RESULTS, RUN_TASKS
from tests.simulation import services
from tests.simulation.arms import arm
from tests.simulation.bus import SimBus
from tests.simulation.chances import Chances, Chronicle
from tests.simulation.clients import client
from tests.simulation.invariants import broken, overdue
from tests.simulation.ledger import SimLedger
from tests.simulation.plans import ALWAYS, Plan
from tests.simulation.timeline import Process, VirtualClock, VirtualLoop
from tests.simulation.wires import URL, plugged_in

RUNS: Final = RUN_TASKS.pattern.removesuffix("*")
LEADERS_SUBJECTS: Final = LEAD_SHARD.pattern.removesuffix("*")
QUEUES: Final = (INTAKE, READY, DISPATCH, RESULTS)
QUIET_WITHIN_S: Final = 400.0
HANDOVER_AFTER_S: Final = 100.0
# A fifth of the real figures: nothing may rest on a Msg-Id's being remembered for long.
DUPLICATE_WINDOW_S: Final = 24.0
FORGOTTEN_AFTER_S: Final = 180.0
ACK_WAIT_S: Final = 10.0
# Orchestrators that began to hear again judge no lease for 15 s; then everything must be in hand.
SETTLED_AFTER_S: Final = 45.0
# Longer than an attempt may be in flight without a trace (15 s) and a beat or two.
IDLE_S: Final = 25.0
IDLE_EVERY: Final = 4
_bundle = msgspec.json.Decoder(hot.RunTasks).decode
Main = Callable[["World", Process, asyncio.Event], Awaitable[None]]
SERVICES: Final[dict[str, Main]] = {
    "orchestrator": services.orchestrator,
    "scheduler": services.scheduler,
    "registry": services.registry,
    "writer": arm,
    "coder": arm,
}


@dataclass
class World:
    """Everything of one run; `problems` is what was found to be wrong."""

    seed: int
    plan: Plan
    keep_lines: bool = False
    problems: list[str] = field(default_factory=list)
    accepted: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    published: list[str] = field(default_factory=list)
    runs: Counter[tuple[str, int]] = field(default_factory=Counter)
    bodies: dict[tuple[str, int], list[bytes]] = field(default_factory=dict)
    dispatched: Counter[tuple[str, int]] = field(default_factory=Counter)
    reported: set[str] = field(default_factory=set)
    background: "set[asyncio.Task[Any]]" = field(default_factory=set)
    leaders: dict[Process, services.SimShardLeader] = field(default_factory=dict)
    now_running: dict[str, tuple[Process, asyncio.Event]] = field(default_factory=dict)
    over: bool = False
    was_idle: bool = False
    digest: str = ""

    def __post_init__(self) -> None:
        self.loop = VirtualLoop()
        self.loop.set_exception_handler(self._failed)
        self.chances = Chances(f"run-{self.seed}")
        self.chronicle = Chronicle(keep=self.keep_lines)
        self.bus = SimBus(self.loop, self.chances, self.chronicle)
        self.bus.hear_stored = self._stored
        self.ledger = SimLedger(
            self.loop, self.chances, self.chronicle, forgotten_after_s=FORGOTTEN_AFTER_S
        )
        self.clock = VirtualClock(self.loop)
        self.arms = {"writer": {"write"}, "coder": {"write", "code"}}

    def _failed(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not self.over:
            self.problems.append(f"{context['message']}: {context.get('exception')!r}")

    # --- what parts of it ask or tell

    def fresh_id(self, prefix: Prefix) -> str:
        """Make an id from the seed and the virtual time."""
        unix_ms = int(self.clock.now().timestamp() * 1000)
        return typeid(prefix, uuid7(unix_ms, self.chances.rng.getrandbits(80)))

    def work_s(self) -> float:
        """Draw how long an attempt works; some outlive the lease that they begin with."""
        if self.chances.hit("work_is_long"):
            return 22.0
        return self.chances.rng.choice([0.01, 0.05, 0.3, 1.0, 3.0])

    def was_accepted(self, name: str, task_id: str) -> None:
        """Note an answer; the same key must always get the same task."""
        known = self.accepted.setdefault(name, task_id)
        if known != task_id:
            self.problems.append(f"{name} was accepted as {known} and as {task_id}")

    def was_refused(self, name: str, code: str) -> None:
        """Note a refusal that no repetition mends."""
        self.refused[name] = code

    def _stored(self, _: str, subject: str, data: bytes) -> None:
        """Count how often each attempt was dispatched."""
        if subject.startswith(RUNS):
            self.dispatched.update((it.task_id, it.attempt) for it in _bundle(data).tasks)

    def started(self, key: tuple[str, int], instance: str) -> None:
        """Note that an arm began an attempt."""
        self.runs[key] += 1
        self.chronicle.note(self.loop.now_s, "run", *key, instance)

    def finished(self, key: tuple[str, int], instance: str, body: bytes) -> None:
        """Note the result that an arm is about to send."""
        self.bodies.setdefault(key, []).append(body)
        self.chronicle.note(self.loop.now_s, "ran", *key, instance)

    # --- processes

    async def keep(self, name: str, main: Main) -> None:
        """Run a service as a supervisor would: whenever it ends, it is started again."""
        number = 0
        while not self.over:
            number += 1
            process, stop, died = Process(f"{name}{number}"), asyncio.Event(), asyncio.Event()
            self.now_running[name] = (process, stop)
            process.closing.append(died.set)
            work = process.spawn(_main(self, main, process, stop))
            dying = asyncio.create_task(died.wait())
            await asyncio.wait({work, dying}, return_when=asyncio.FIRST_COMPLETED)
            dying.cancel()
            if work.done() and not work.cancelled() and (error := work.exception()) is not None:
                self.chronicle.note(self.loop.now_s, "ended", process.name, type(error).__name__)
                if not isinstance(error, OctarmError | OSError):
                    self.problems.append(f"{process.name} died of {error!r}")
            self.leaders.pop(process, None)
            await asyncio.sleep(self.chances.rng.uniform(0.2, 2.0))

    async def _harm(self) -> None:
        """Do one deed after another until the chaos is over."""
        rng = self.chances.rng
        until = self.loop.now_s + self.plan.chaos_s
        while self.plan.deeds:
            await asyncio.sleep(rng.expovariate(1 / self.plan.every_s))
            if self.loop.now_s > until:
                return
            deed = rng.choice(self.plan.deeds)
            name = rng.choice(sorted(self.now_running))
            self.chronicle.note(self.loop.now_s, "deed", deed, name)
            getattr(self, f"_{deed}")(name)

    def _kill(self, name: str) -> None:
        self.now_running[name][0].kill()

    def _stop(self, name: str) -> None:
        self.now_running[name][1].set()

    def _pause(self, name: str) -> None:
        process = self.now_running[name][0]
        process.paused = True
        self.loop.later(self.chances.rng.uniform(1, 20), self.loop.resume, process)

    def _drop(self, _: str) -> None:
        if self.bus.links:
            self.chances.rng.choice(list(self.bus.links)).drop()

    def _stall(self, _: str) -> None:
        if not self.bus.links:
            return
        link = self.chances.rng.choice(list(self.bus.links))
        link.stalled_until = self.loop.now_s + self.chances.rng.uniform(0.5, 8)

    def _mute_a_leader(self, _: str) -> None:
        """What a leader sends meanwhile arrives when another leads, even if it is dead by then."""
        rng, led = self.chances.rng, [it for it in self.leaders if it.alive]
        if not led:
            return
        process, away_s = rng.choice(led), rng.uniform(6, 25)
        for link in self.bus.links:
            if link.process is process:
                link.mute_until = self.loop.now_s + away_s
        if rng.random() < 0.5:
            self.loop.later(rng.uniform(0.1, 3), process.kill)

    def _depose_unseen(self, _: str) -> None:
        """A leader gives up while an orchestrator does not write down what it has read."""
        rng = self.chances.rng
        self._pause("orchestrator_a")
        for process, stop in self.now_running.values():
            if process in self.leaders:
                self.loop.later(rng.uniform(0, 2), stop.set)

    def _restart_bus(self, _: str) -> None:
        self.bus.restart(self.chances.rng.uniform(0.2, 4))

    def _database_away(self, _: str) -> None:
        self.ledger.away_until = self.loop.now_s + self.chances.rng.uniform(0.5, 6)

    def _stream_full(self, _: str) -> None:
        stream = self.bus.streams[self.chances.rng.choice(QUEUES)]
        stream.is_full = True
        self.loop.later(self.chances.rng.uniform(0.5, 5), self._room_again, stream)

    def _room_again(self, stream: Any) -> None:
        stream.is_full = False

    def _clock_jump(self, name: str) -> None:
        self.now_running[name][0].skew_s = self.chances.rng.choice([-300.0, -2.0, 2.0, 300.0])

    # --- the run

    async def _run(self) -> None:
        async with connected_to(URL, name="setup") as nc:
            await provision(nc.jetstream(), shards=services.SHARDS)
        for stream in self.bus.streams.values():
            stream.config["duplicate_window"] = int(DUPLICATE_WINDOW_S * 1e9)
        self.bus.ack_waits_s[30.0] = ACK_WAIT_S
        for consumer in self.bus.consumers.values():
            consumer.configure(consumer.config)
        self.chances.begin(self.plan.rates)
        keepers = [
            asyncio.create_task(self.keep(f"{name}_{replica}", main))
            for name, main in SERVICES.items()
            for replica in ("ab" if name in self.plan.twice else "a")
        ]
        share = self.plan.tasks // 2
        submitting = [
            (process := Process(name)).spawn(client(self, process, number))
            for name, number in (("one", share), ("two", self.plan.tasks - share))
        ]
        await self._harm()
        self.chances.begin({name: self.plan.rates[name] for name in ALWAYS})
        await asyncio.wait(submitting, timeout=QUIET_WITHIN_S)
        await self._until_quiet()
        for task in submitting:
            if not task.done():
                self.problems.append("a client still waits for its answers")
            elif task.exception() is not None:
                self.problems.append(f"a client failed: {task.exception()!r}")
        self.was_idle = self.seed % IDLE_EVERY == 0
        if self.was_idle:
            await asyncio.sleep(IDLE_S)
        self.problems += broken(self)
        self.over = True
        for keeper in keepers:
            keeper.cancel()

    async def _until_quiet(self) -> None:
        began, handed_over = self.loop.now_s, False
        while self.noise():
            if self.loop.now_s - began > SETTLED_AFTER_S and (late := list(overdue(self))):
                self.problems += late
                return
            if self.loop.now_s - began > QUIET_WITHIN_S:
                self.problems.append(f"never quiet: {self.noise()}")
                return
            if not handed_over and self.loop.now_s - began > HANDOVER_AFTER_S:
                # A READY message whose acknowledgement was lost stays until the next leader.
                handed_over = True
                for name in self.now_running:
                    if name.startswith("scheduler"):
                        self._stop(name)
            await asyncio.sleep(1.0)

    def noise(self) -> dict[str, int]:
        """Count what is still under way."""
        counts = {
            name: sum(
                not message.subject.startswith(LEADERS_SUBJECTS)
                for message in self.bus.streams[name].messages.values()
            )
            for name in QUEUES
        }
        counts |= {
            "open": len(self.ledger.tables.open),
            "outbox": len(self.ledger.tables.outbox),
        }
        return {name: count for name, count in counts.items() if count}

    def run(self) -> "World":
        """Run to the end; give the world for inspection."""
        state = random.getstate()
        random.seed(self.seed)
        asyncio.set_event_loop(self.loop)
        try:
            with plugged_in(self.bus):
                self.loop.run_until_complete(self._run())
                self.chronicle.note(self.loop.now_s, "over")
                self.digest = self.chronicle.digest()
                self.loop.finish()
        finally:
            asyncio.set_event_loop(None)
            random.setstate(state)
        return self


async def _main(world: World, main: Main, process: Process, stop: asyncio.Event) -> None:
    with suppress(asyncio.CancelledError):
        await main(world, process, stop)


def hush() -> None:
    """Let the services say nothing: a run has thousands of warnings."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
