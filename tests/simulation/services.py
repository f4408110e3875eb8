"""The processes of the product, wired as their `__main__` does, on the simulated parts."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from typing import TYPE_CHECKING, Final

import msgspec
from nats.aio.client import Client as NATS
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from octarm.arm_registry.domain.beats import NotABeat, read_beat
from octarm.arm_registry.storage import BusAnnouncer, BusConsumers, KvDirectory
from octarm.arm_registry.usecases import RegisterArm, WatchArms
from octarm.common.bus.connection import connected_to
from octarm.common.bus.delivery import ACKS_LINGER_S
from octarm.common.bus.leadership import Leadership
from octarm.common.bus.publisher import Publisher
from octarm.common.bus.requests import ok, problem
from octarm.common.bus.runner import ConsumerRef, PullRunner
from octarm.common.bus.topology import (
    ORCHESTRATOR_DISPATCH,
    ORCHESTRATOR_INTAKE,
    ORCHESTRATOR_RESULTS,
)
from octarm.common.clock import Clock
from octarm.common.service import until_stopped
from octarm.models import hot, queries, rejections
from octarm.models.errors import OctarmError
from octarm.models.subjects import (
    CANCEL_TASK,
    DISPATCH,
    GET_STATES,
    HEARTBEAT,
    INTAKE,
    REGISTER_ARM,
    REJECT_TASKS,
    RESULTS,
)
from octarm.orchestrator.intake import IntakeConsumer, SubmitResponder, gathered
from octarm.orchestrator.results import ResultsConsumer
from octarm.orchestrator.routes import QUEUE, hear_heartbeats
from octarm.orchestrator.storage.ready import ReadyStream
from octarm.orchestrator.storage.revoking import BusRevoker
from octarm.orchestrator.usecases.accept import AcceptTasks
from octarm.orchestrator.usecases.cancelling import CancelTasks, StopAttempts
from octarm.orchestrator.usecases.endings import Reconcile
from octarm.orchestrator.usecases.leases import KeepLeases
from octarm.orchestrator.usecases.record import RecordNews
from octarm.orchestrator.usecases.rejecting import RejectTasks
from octarm.orchestrator.usecases.relay import Relay
from octarm.scheduler import routes as scheduler_routes
from octarm.scheduler.leader import ShardLeader
from octarm.scheduler.settings import Settings as SchedulerSettings
from octarm.scheduler.storage import ArmDirectory
from tests.simulation.ledger import SimLedger
from tests.simulation.scripts import SimScripts
from tests.simulation.timeline import Process, VirtualClock
from tests.simulation.wires import URL

if TYPE_CHECKING:
    from tests.simulation.world import World

SHARDS: Final = 1


async def orchestrator(world: "World", process: Process, stop: asyncio.Event) -> None:
    """One replica of the orchestrator."""
    async with connected_to(URL, name="orchestrator", on_closed=stop.set) as nc:
        await _orchestrate(world, nc, VirtualClock(world.loop, process), stop)


async def _orchestrate(world: "World", nc: NATS, clock: Clock, stop: asyncio.Event) -> None:
    ledger, publisher = world.ledger, Publisher(nc)
    relay = Relay(publisher, ledger, clock=clock, connected=lambda: nc.is_connected)
    revoke = BusRevoker(nc)
    accept = AcceptTasks(ledger, relay, clock, SHARDS, fresh_id=world.fresh_id)
    accepting = gathered(accept)
    record = RecordNews(ledger, relay, revoke, chance=world.chances.rng.random)
    results = ResultsConsumer(record, clock)
    runners = [
        PullRunner(
            nc,
            publisher,
            ConsumerRef(INTAKE, ORCHESTRATOR_INTAKE),
            IntakeConsumer(accepting),
            clock=clock,
        ),
        PullRunner(
            nc,
            publisher,
            ConsumerRef(RESULTS, ORCHESTRATOR_RESULTS),
            results,
            concurrency=2,
            linger_s=ACKS_LINGER_S,
            clock=clock,
        ),
        PullRunner(
            nc,
            publisher,
            ConsumerRef(DISPATCH, ORCHESTRATOR_DISPATCH),
            results,
            concurrency=2,
            linger_s=ACKS_LINGER_S,
            clock=clock,
        ),
    ]
    leases = KeepLeases(ledger, clock, revoke, lambda: nc.is_connected)
    ready = ReadyStream(nc, SHARDS)
    reconcile = Reconcile(ledger, relay, revoke, SHARDS, leases.hears_beats, ready.is_read)
    await SubmitResponder(nc, accepting).start()
    stopping = StopAttempts(ledger, relay, revoke.withdraw, leases.hears_beats, clock=clock)
    await hear_heartbeats(nc, leases, stopping.heard, clock=clock)
    await _answer_cancels(nc, CancelTasks(ledger, relay, stopping))
    await _answer_rejections(nc, RejectTasks(ledger, relay))
    await _answer_states(nc, ledger)
    relaying = asyncio.Event()
    relay_task = asyncio.create_task(relay.run(relaying))
    try:
        work = [results.run(stop), *(runner.run(stop) for runner in runners)]
        work += [leases.run(stop), reconcile.run(stop), stopping.run(stop)]
        await until_stopped(stop, *work)
        await accepting.drain()
    finally:
        relaying.set()
        await relay_task


async def _answer_cancels(nc: NATS, cancel: CancelTasks) -> None:
    decode = msgspec.json.Decoder(type=dict[str, str]).decode

    async def answer(data: bytes) -> bytes:
        query = decode(data)
        done = await cancel(query["task_id"], query["tenant"], "enough")
        return b"true" if done else b"false"

    await _answer(nc, CANCEL_TASK.at(), answer)


async def _answer_rejections(nc: NATS, reject: RejectTasks) -> None:
    async def answer(data: bytes) -> bytes:
        query = rejections.RejectTasks.model_validate_json(data)
        ended = await reject(query.tasks)
        return rejections.TasksRejected(task_ids=ended).model_dump_json().encode()

    await _answer(nc, REJECT_TASKS.at(), answer)


async def _answer_states(nc: NATS, ledger: SimLedger) -> None:
    async def answer(data: bytes) -> bytes:
        query = queries.GetStates.model_validate_json(data)
        found = await ledger.outcomes(query.task_ids)
        return queries.StatesFound(outcomes=found).model_dump_json().encode()

    await _answer(nc, GET_STATES.at(), answer)


async def _answer(nc: NATS, subject: str, answer: Callable[[bytes], Awaitable[bytes]]) -> None:
    async def asked(msg: Msg) -> None:
        try:
            body = ok(await answer(msg.data))
        except OctarmError as error:
            body = problem(error)
        with suppress(NatsError, OSError):
            await nc.publish(msg.reply, body)

    await nc.subscribe(subject, queue=QUEUE, cb=asked)


class SimShardLeader(ShardLeader):
    """Leads without answering questions: FastStream has no part in the simulation."""

    def _answering(self) -> AbstractAsyncContextManager[object]:
        return nullcontext()


async def scheduler(world: "World", process: Process, stop: asyncio.Event) -> None:
    """One replica of the scheduler."""
    clock = VirtualClock(world.loop, process)
    settings = SchedulerSettings(instance=process.name, nats_url=URL)
    async with connected_to(URL, name="scheduler", on_closed=stop.set) as nc:
        scripts = SimScripts(world.chances, world.plan.scripted)
        leader = SimShardLeader(settings, nc, Publisher(nc), shard=0, clock=clock, scripts=scripts)
        world.leaders[process] = leader

        async def hear(beat: hot.Heartbeat) -> None:
            leader.tend.hear(beat)

        await scheduler_routes.hear_heartbeats(nc, hear, clock=clock)
        directory = ArmDirectory(
            nc,
            relisted=leader.desk.directory_listed,
            learned=leader.desk.arm_learned,
            unlearned=leader.desk.arm_unlearned,
            clock=clock,
        )
        background = [asyncio.create_task(directory.run()), asyncio.create_task(leader.tend.run())]
        try:
            await until_stopped(stop, leader.run(stop))
        finally:
            for task in background:
                task.cancel()
            await asyncio.wait(background)


async def registry(world: "World", process: Process, stop: asyncio.Event) -> None:
    """One replica of the arm registry."""
    clock = VirtualClock(world.loop, process)
    async with connected_to(URL, name="arm-registry", on_closed=stop.set) as nc:
        directory, announcer = KvDirectory(nc), BusAnnouncer(Publisher(nc))

        def hearing() -> int | None:
            return nc.stats["reconnects"] if nc.is_connected else None

        watch = WatchArms(directory, announcer, clock, hearing)
        register = RegisterArm(directory, BusConsumers(nc), announcer, clock)
        await _answer_registrations(nc, register)

        async def heard(msg: Msg) -> None:
            try:
                watch.hear(read_beat(msg.subject, msg.data))
            except NotABeat as error:
                world.problems.append(f"a beat was refused: {error}")

        await nc.subscribe(HEARTBEAT.pattern, cb=heard)
        leadership = Leadership(nc, "arm-registry", holder=process.name, clock=clock)
        await until_stopped(stop, leadership.run(stop, watch.lead), announcer.run(stop))


async def _answer_registrations(nc: NATS, register: RegisterArm) -> None:
    async def asked(msg: Msg) -> None:
        try:
            record = await register(queries.RegisterArm.model_validate_json(msg.data))
            answer = ok(record.model_dump_json().encode())
        except OctarmError as error:
            answer = problem(error)
        try:
            await nc.publish(msg.reply, answer)
        except (NatsError, OSError):
            return

    await nc.subscribe(REGISTER_ARM.at(), queue="arm-registry", cb=asked)
