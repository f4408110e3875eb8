"""Leaving while the server is away: nothing raises, nothing comes back later."""

import asyncio
from pathlib import Path

import pytest
from faststream.nats import NatsRouter
from nats.aio.msg import Msg

from octarm.common.bus import wire
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


async def test_does_not_wait_for_what_a_server_that_is_gone_may_still_send(
    nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "ROUND_TRIP_S", 0.05)
    nc = await connect(nats_url, name="test")
    subscription = await nc.subscribe("octarm.v1.chunk.x", cb=_ignore)
    monkeypatch.setattr(subscription, "drain", asyncio.Event().wait)

    await wire.take_no_more(nc, subscription)

    assert subscription._id not in nc._subs
    await nc.close()


async def _ignore(_: Msg) -> None:
    return None
