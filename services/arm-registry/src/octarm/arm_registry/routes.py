"""The registry's subscriptions: queries shared by all replicas, beats heard by each."""

from dataclasses import dataclass
from typing import Final

from faststream.nats import NatsRouter
from nats.aio.client import Client as NATS
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from octarm.arm_registry import usecases
from octarm.arm_registry.domain.beats import NotABeat, read_beat
from octarm.common.bus import flood
from octarm.common.bus.newest_first import NewestFirst
from octarm.common.bus.requests import answer, on
from octarm.common.clock import Clock
from octarm.common.telemetry import metrics
from octarm.models import queries, subjects
from octarm.models.arms import ArmRecord
from octarm.models.events import ArmEvent

QUEUE: Final = "arm-registry"
OTHERS_WRITE: Final = frozenset({"arm.registered", "arm.deregistered", "arm.draining"})


@dataclass(frozen=True, slots=True)
class UseCases:
    """What the queries call."""

    deregister: usecases.DeregisterArm
    drain: usecases.DrainArm
    get: usecases.GetArm
    find: usecases.FindArms
    watch: usecases.WatchArms


def routes(cases: UseCases) -> NatsRouter:
    """Give the control plane; nothing connects until a broker includes it."""
    router = NatsRouter()

    @answer(router, subjects.DEREGISTER_ARM, queue=QUEUE)
    async def deregister(command: queries.ArmKey) -> queries.Done:
        return await cases.deregister(command)

    @answer(router, subjects.DRAIN_ARM, queue=QUEUE)
    async def drain(command: queries.ArmKey) -> ArmRecord:
        return await cases.drain(command)

    @answer(router, subjects.GET_ARM, queue=QUEUE)
    async def get(query: queries.ArmKey) -> ArmRecord:
        return await cases.get(query)

    @answer(router, subjects.FIND_ARMS, queue=QUEUE)
    async def find(query: queries.FindArms) -> queries.ArmsFound:
        return await cases.find(query)

    @on(router, subjects.ARM_EVENT)
    async def arm_changed(event: ArmEvent) -> None:
        if event.type in OTHERS_WRITE:
            cases.watch.reread(event.arm_id)

    return router


async def answer_registrations(
    nc: NATS, register: usecases.RegisterArm, clock: Clock
) -> NewestFirst:
    """Let arms register, a whole fleet at the same moment too; the caller closes."""
    answering = NewestFirst(nc, subjects.REGISTER_ARM, register, clock=clock)
    await answering.open(queue=QUEUE)
    return answering


async def hear_beats(nc: NATS, watch: usecases.WatchArms, clock: Clock) -> Subscription:
    """Subscribe to every arm's beats; the caller unsubscribes.

    On the bare client, not on the control plane: a flood must be turned away before
    anything is parsed.
    """

    def flooded() -> None:
        metrics.inc("octarm_registry_heartbeats_total", outcome="flood")

    async def received(msg: Msg) -> None:
        try:
            beat = read_beat(msg.subject, msg.data)
        except NotABeat:
            metrics.inc("octarm_registry_heartbeats_total", outcome="refused")
            return
        metrics.inc("octarm_registry_heartbeats_total", outcome="heard")
        watch.hear(beat)

    return await flood.hear_beats(
        nc, subjects.HEARTBEAT.pattern, received, clock=clock, flooded=flooded
    )
