"""The arm registry as a process: `python -m octarm.arm_registry`."""

import asyncio
from functools import partial

from nats.aio.client import Client as NATS

from octarm.arm_registry.routes import (
    UseCases,
    answer_registrations,
    hear_beats,
    routes,
)
from octarm.arm_registry.settings import Settings
from octarm.arm_registry.storage import BusAnnouncer, BusConsumers, KvDirectory
from octarm.arm_registry.usecases import (
    DeregisterArm,
    DrainArm,
    FindArms,
    GetArm,
    RegisterArm,
    WatchArms,
)
from octarm.common.bus.connection import connected_to, must_answer
from octarm.common.bus.identity import introduce
from octarm.common.bus.leadership import Leadership
from octarm.common.bus.publisher import Publisher
from octarm.common.bus.requests import control_plane
from octarm.common.clock import SystemClock
from octarm.common.health import HealthServer
from octarm.common.service import run, until_stopped

LEASE = "arm-registry"


async def main(settings: Settings, stop: asyncio.Event) -> None:
    """Serve until `stop`; what opens first closes last."""
    async with connected_to(
        settings.nats_url,
        name="arm-registry",
        expect_cluster=settings.nats_cluster,
        on_closed=stop.set,
    ) as nc:
        await introduce(nc, "arm-registry", settings.instance)
        await _serve(settings, nc, stop)


async def _serve(settings: Settings, nc: NATS, stop: asyncio.Event) -> None:
    clock = SystemClock()
    directory = KvDirectory(nc)
    publisher = Publisher(nc)
    announcer = BusAnnouncer(publisher)
    consumers = BusConsumers(nc)
    watch = WatchArms(directory, announcer, clock, lambda: _hearing(nc), consumers=consumers)
    router = routes(
        UseCases(
            deregister=DeregisterArm(directory, announcer, clock),
            drain=DrainArm(directory, announcer, clock),
            get=GetArm(directory),
            find=FindArms(directory),
            watch=watch,
        )
    )
    health = HealthServer(
        settings.http_port,
        host=settings.http_host,
        live=lambda: not nc.is_closed and watch.healthy(),
        ready={"nats": partial(must_answer, nc), "directory": directory.check},
    )
    register = RegisterArm(directory, consumers, announcer, clock)
    leadership = Leadership(nc, LEASE, holder=settings.instance)
    registrations = await answer_registrations(nc, register, clock)
    async with health, control_plane(settings.nats_url, router, name="arm-registry"):
        beats = await hear_beats(nc, watch, clock)
        try:
            await until_stopped(stop, leadership.run(stop, watch.lead), announcer.run(stop))
        finally:
            await registrations.close()
            if not nc.is_closed:
                await beats.unsubscribe()
            await publisher.close()


def _hearing(nc: NATS) -> int | None:
    return nc.stats["reconnects"] if nc.is_connected else None


if __name__ == "__main__":
    run(main, Settings, "arm-registry")
