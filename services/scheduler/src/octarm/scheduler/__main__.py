"""The scheduler as a process: `python -m octarm.scheduler`."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial

from nats.aio.client import Client as NATS

from octarm.common.bus.connection import connected_to, must_be_connected
from octarm.common.bus.identity import introduce
from octarm.common.bus.publisher import Publisher
from octarm.common.cancelling import end
from octarm.common.health import HealthServer
from octarm.common.service import run, until_stopped
from octarm.models.hot import Heartbeat
from octarm.policies.collecting import TIDY
from octarm.policies.context import ArmFacts
from octarm.policies.store.store import PolicyStore
from octarm.scheduler.leader import ShardLeader
from octarm.scheduler.policies.answering import answering
from octarm.scheduler.policies.deployed import DeployedPolicies
from octarm.scheduler.routes import hear_heartbeats
from octarm.scheduler.settings import Settings
from octarm.scheduler.storage import ArmDirectory


async def main(settings: Settings, stop: asyncio.Event) -> None:
    """Compete for every shard until `stop`; what opens first closes last."""
    async with connected_to(
        settings.nats_url,
        name="scheduler",
        expect_cluster=settings.nats_cluster,
        on_closed=stop.set,
    ) as nc:
        await introduce(nc, "scheduler", settings.instance)
        with TIDY:
            await _serve(settings, nc, stop)


async def _serve(settings: Settings, nc: NATS, stop: asyncio.Event) -> None:
    publisher = Publisher(nc)
    store = PolicyStore(nc, publisher)
    deployed = DeployedPolicies(store)
    leaders = [
        ShardLeader(settings, nc, publisher, shard=shard, scripts=deployed)
        for shard in range(settings.shards)
    ]

    def poke() -> None:
        for leader in leaders:
            leader.desk.poke()

    deployed.changed = poke
    health = HealthServer(
        settings.http_port,
        host=settings.http_host,
        live=lambda: not nc.is_closed and all(leader.healthy() for leader in leaders),
        ready={"nats": partial(must_be_connected, nc)},
    )
    questions = answering(nc, settings.nats_url, store, platform=settings.policy)
    async with deployed, health, questions:
        beats = await hear_heartbeats(nc, _heartbeats_for(leaders))
        try:
            background = [
                _until(stop, _directory_for(nc, leaders).run()),
                _until(stop, deployed.run()),
                _until(stop, TIDY.run()),
                *[_until(stop, leader.tend.run()) for leader in leaders],
            ]
            await until_stopped(stop, *background, *[leader.run(stop) for leader in leaders])
        finally:
            if not nc.is_closed:
                await beats.unsubscribe()
            await publisher.close()


def _heartbeats_for(leaders: list[ShardLeader]) -> Callable[[Heartbeat], Awaitable[None]]:
    async def hear(beat: Heartbeat) -> None:
        for leader in leaders:
            leader.tend.hear(beat)

    return hear


def _directory_for(nc: NATS, leaders: list[ShardLeader]) -> ArmDirectory:
    def relisted(listed: list[ArmFacts]) -> None:
        for leader in leaders:
            leader.desk.directory_listed(listed)

    def learned(facts: ArmFacts) -> None:
        for leader in leaders:
            leader.desk.arm_learned(facts)

    def unlearned(arm_id: str) -> None:
        for leader in leaders:
            leader.desk.arm_unlearned(arm_id)

    return ArmDirectory(nc, relisted=relisted, learned=learned, unlearned=unlearned)


async def _until(stop: asyncio.Event, work: Coroutine[None, None, None]) -> None:
    """Run endless work until `stop`; what it raises is raised here."""
    working, stopped = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            await working
    finally:
        await end(stopped, working)


if __name__ == "__main__":
    run(main, Settings, "scheduler")
