"""Reading a stream without a gap, though messages get lost on their way."""

import asyncio
from contextlib import aclosing
from typing import Any

import pytest
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from octarm.common.bus import history
from octarm.common.bus.connection import connect
from octarm.common.bus.history import read_stream
from octarm.common.bus.topology import provision
from octarm.models.subjects import EVENTS, MOVED, TASK_EVENTS
from tests.support.wait import wait_until

pytestmark = pytest.mark.integration
SUBJECT = TASK_EVENTS.at(what=MOVED, tenant="default", bucket=1)


def lose(monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    """Let the first delivery of a message get lost, as with a connection that breaks."""
    fetch = JetStreamContext.PullSubscription.fetch
    lost: list[Msg] = []

    async def lossy(self: Any, *args: Any, **options: Any) -> list[Msg]:
        came = await fetch(self, *args, **options)
        if not lost:
            lost.extend(message for message in came if message.data == body)
            return [message for message in came if message.data != body]
        return came

    monkeypatch.setattr(JetStreamContext.PullSubscription, "fetch", lossy)
    monkeypatch.setattr(history, "FETCH_S", 0.3)


@pytest.mark.parametrize("expected", [[b"1", b"2", b"3"], [b"1", b"2"]])
async def test_a_message_that_was_lost_on_its_way_is_read_again(
    nats_url: str, monkeypatch: pytest.MonkeyPatch, expected: list[bytes]
) -> None:
    lose(monkeypatch, b"2")
    nc = await connect(nats_url, name="test")
    await provision(nc.jetstream())
    interruptions: list[Exception] = []
    found: list[bytes] = []

    async def read() -> None:
        reading = read_stream(nc, EVENTS, SUBJECT, after=0, interrupted=interruptions.append)
        async with aclosing(reading) as messages:
            async for message in messages:
                found.append(message.data)

    reader = asyncio.create_task(read())
    for body in expected:
        await nc.jetstream().publish(SUBJECT, body)
    await wait_until(lambda: len(found) >= len(expected))
    reader.cancel()
    await asyncio.wait({reader})
    await nc.close()

    assert found == expected
    assert [type(error).__name__ for error in interruptions] == ["MissedMessages"]
