"""Leaving while the server is away: nothing raises, nothing comes back later."""

from pathlib import Path

import pytest
from faststream.nats import NatsRouter

from octarm.common.bus.connection import close, connect
from octarm.common.bus.requests import control_plane
from tests.support.servers import a_nats_server
from tests.support.wait import wait_until

pytestmark = pytest.mark.integration


async def test_a_connection_closes_while_its_server_is_away(tmp_path: Path) -> None:
    async with a_nats_server(tmp_path) as url:
        nc = await connect(url, name="test")
    await wait_until(lambda: nc.is_reconnecting)
    await nc.publish("octarm.v1.chunk.x", b"pending")

    await close(nc)

    assert nc.is_closed


async def test_the_control_plane_ends_while_its_server_is_away(tmp_path: Path) -> None:
    async with a_nats_server(tmp_path) as url:
        plane = control_plane(url, NatsRouter(), name="test")
        broker = await plane.__aenter__()
        connection = broker.connection
    await wait_until(lambda: connection.is_reconnecting)

    await plane.__aexit__(None, None, None)

    assert connection.is_closed
