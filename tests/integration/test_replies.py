"""Requests over one inbox of a connection."""

import asyncio

import pytest
from nats.aio.client import Client as NATS
from nats.aio.msg import Msg

from octarm.common.bus.connection import connected_to
from octarm.common.bus.requests import ask_raw
from octarm.models.errors import TimedOut, Unavailable

pytestmark = pytest.mark.integration


async def echo(msg: Msg) -> None:
    await msg.respond(msg.data)


async def test_each_gets_the_answer_to_what_was_asked(nats_url: str) -> None:
    async with connected_to(nats_url, name="replies") as nc:
        await nc.subscribe("replies.echo", cb=echo)
        bodies = [b"%d" % number for number in range(50)]
        answers = await asyncio.gather(*(ask_raw(nc, "replies.echo", body) for body in bodies))
    assert answers == bodies


async def test_nobody_there_is_said_at_once(nats_url: str) -> None:
    async with connected_to(nats_url, name="replies") as nc:
        with pytest.raises(Unavailable, match="nobody answers"):
            await ask_raw(nc, "replies.nobody", b"", timeout_s=60)


async def test_who_does_not_answer_is_not_waited_for(nats_url: str) -> None:
    async with connected_to(nats_url, name="replies") as nc:
        late: list[Msg] = []

        async def keep(msg: Msg) -> None:
            late.append(msg)

        await nc.subscribe("replies.late", cb=keep)
        with pytest.raises(TimedOut):
            await ask_raw(nc, "replies.late", b"", timeout_s=0.2)
        for msg in late:
            await msg.respond(b"too late")
        await nc.subscribe("replies.echo", cb=echo)
        assert await ask_raw(nc, "replies.echo", b"next") == b"next"


@pytest.mark.parametrize("subject", ["two words", "", "line\r\nPUB x 0"])
async def test_a_subject_that_is_none_is_refused(nats_url: str, subject: str) -> None:
    async with connected_to(nats_url, name="replies") as nc:
        with pytest.raises(Unavailable):
            await ask_raw(nc, subject, b"")


async def test_what_does_not_fit_the_bus_is_refused(nats_url: str) -> None:
    async with connected_to(nats_url, name="replies") as nc:
        with pytest.raises(Unavailable):
            await ask_raw(nc, "replies.echo", b"x" * (nc.max_payload + 1))


async def test_a_closed_connection_asks_nobody(nats_url: str) -> None:
    async with connected_to(nats_url, name="replies") as nc:
        kept: NATS = nc
    with pytest.raises(Unavailable):
        await ask_raw(kept, "replies.echo", b"")
