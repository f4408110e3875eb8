"""Scenarios for JetStream, played on the simulated bus and on nats-server through the client.

Every scenario is a coroutine on a connection. On the simulated bus it runs on virtual time.
"""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

from nats.aio.client import Client as NATS
from nats.aio.msg import Msg

from octarm.common.bus.connection import connected_to
from octarm.common.bus.publisher import Outgoing, Publisher
from tests.simulation.bus import SimBus
from tests.simulation.chances import Chances, Chronicle
from tests.simulation.timeline import VirtualLoop
from tests.simulation.wires import URL, plugged_in
from tests.support.servers import a_nats_server

SHORT_S: Final = 1.0
Scenario = Callable[[NATS], Awaitable[None]]


def on_sim_bus(scenario: Scenario) -> None:
    """Play a scenario on the simulated bus."""
    loop = VirtualLoop()
    bus = SimBus(loop, Chances(1), Chronicle())

    async def play() -> None:
        async with connected_to(URL, name="contract") as nc:
            await scenario(nc)

    with plugged_in(bus):
        try:
            loop.run_until_complete(play())
        finally:
            loop.finish()


async def on_nats_server(scenarios: Sequence[Scenario], folder: Path) -> None:
    """Play scenarios on one real server, each on an empty one."""
    async with a_nats_server(folder / "nats") as url:
        for scenario in scenarios:
            async with connected_to(url, name="contract") as nc:
                await scenario(nc)
                for stream in await nc.jetstream().streams_info():
                    await nc.jetstream().delete_stream(str(stream.config.name))


async def put(nc: NATS, *names: str, subject: str = "q.one") -> list[Any]:
    """Publish a message for each name, with the name as body and Msg-Id."""
    publisher = Publisher(nc)
    try:
        return await publisher.publish_many(
            [Outgoing(subject, name.encode(), name) for name in names]
        )
    finally:
        await publisher.close()


async def pull(
    nc: NATS, number: int = 10, *, timeout_s: float = SHORT_S, durable: str = "d"
) -> list[Msg]:
    """Fetch what there is now; nothing when nothing comes in time."""
    subscription = await nc.jetstream().pull_subscribe_bind(durable, "Q")
    try:
        return await subscription.fetch(number, timeout=timeout_s)
    except TimeoutError:  # the client raises three kinds, all of them this one
        return []
    finally:
        await subscription.unsubscribe()


def bodies(messages: list[Msg]) -> list[str]:
    return [message.data.decode() for message in messages]
