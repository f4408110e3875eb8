"""The gateway's process; the argument `openapi` prints the API's description instead."""

import asyncio
import sys
from functools import partial

from nats.aio.client import Client

from octarm.clients.arm_registry import ArmRegistryClient
from octarm.clients.memory import MemoryClient
from octarm.clients.orchestrator import OrchestratorClient
from octarm.clients.policies import PolicyClient
from octarm.clients.scheduler import SchedulerClient
from octarm.clients.semantic import SemanticClient
from octarm.clients.upkeep import UpkeepClient
from octarm.common.bus.connection import connected_to, must_be_connected
from octarm.common.bus.dead_letter_box import DeadLetterBox
from octarm.common.bus.identity import introduce
from octarm.common.bus.publisher import Publisher
from octarm.common.service import run
from octarm.common.telemetry import get_logger
from octarm.gateway.app import Surroundings, make_app, openapi_text
from octarm.gateway.domain.tenants import DEFAULT_TENANT, Tenants
from octarm.gateway.server import listen, serve
from octarm.gateway.settings import Settings
from octarm.gateway.storage import BusTaskEvents
from octarm.gateway.usecases.ports import Fleet
from octarm.models.ids import new_id

log = get_logger()


def fleet_on(nc: Client, publisher: Publisher, settings: Settings) -> Fleet:
    """Everything behind the API, reached over one connection."""
    answer_s, memory_s = settings.answer_s, settings.memory_s
    return Fleet(
        tasks=OrchestratorClient(nc, answer_s),
        queue=SchedulerClient(nc, answer_s),
        arms=ArmRegistryClient(nc, answer_s),
        episodes=MemoryClient(nc, memory_s),
        knowledge=SemanticClient(nc, memory_s),
        upkeep=UpkeepClient(nc, memory_s),
        events=BusTaskEvents(nc),
        letters=DeadLetterBox(nc, publisher),
        policies=PolicyClient(nc, timeout_s=answer_s),
    )


def surroundings(settings: Settings, nc: Client, stop: asyncio.Event) -> Surroundings:
    """What the application is told about this process."""
    orchestrator = OrchestratorClient(nc, timeout_s=1.5)

    async def orchestrator_answers() -> None:
        await orchestrator.states(DEFAULT_TENANT, [new_id("tsk")])

    return Surroundings(
        tenants=Tenants.parse(settings.api_keys.get_secret_value()),
        closing=stop,
        live=lambda: not nc.is_closed,
        connected=lambda: nc.is_connected,
        ready={"nats": partial(must_be_connected, nc), "orchestrator": orchestrator_answers},
        shards=settings.shards,
        operators=frozenset(settings.operators.split(",")) - {""},
        answer_s=settings.answer_s,
        home=settings.policy_mode == "home",
    )


async def main(settings: Settings, stop: asyncio.Event) -> None:
    """Serve the API until `stop`."""
    listener = listen(settings.http_host, settings.http_port)
    with listener:
        async with connected_to(
            settings.nats_url,
            name=f"gateway-{settings.instance}",
            expect_cluster=settings.nats_cluster,
            on_closed=stop.set,
        ) as nc:
            await introduce(nc, "gateway", settings.instance)
            publisher = Publisher(nc)
            fleet = fleet_on(nc, publisher, settings)
            app = make_app(fleet, surroundings(settings, nc, stop))
            log.info("listening", port=listener.getsockname()[1])
            await serve(
                app,
                listener,
                stop,
                drain_s=settings.drain_s,
                max_connections=settings.max_connections,
            )
            await publisher.close()


if __name__ == "__main__":
    if sys.argv[1:] == ["openapi"]:
        sys.stdout.write(openapi_text())
    else:
        run(main, Settings, "gateway")
