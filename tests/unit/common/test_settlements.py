"""When the server is told what became of deliveries."""

import asyncio
from typing import cast

import pytest
from nats.aio.client import Client as NATS

from octarm.common.bus import delivery
from octarm.common.bus.delivery import Settlements
from tests.support.wait import wait_until

ACKED, REFUSED = b"+ACK", b"-NAK"
NEVER_S = 3600.0


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    written: list[bytes] = []

    async def write(_: NATS, commands: bytes) -> None:
        written.extend(line for line in commands.split(b"\r\n") if line.startswith(b"PUB"))

    monkeypatch.setattr(delivery, "write_commands", write)
    return written


def settlements(linger_s: float) -> Settlements:
    return Settlements(cast(NATS, None), linger_s=linger_s)


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_an_acknowledgement_lingers_until_another_message_has_come(said: list[bytes]) -> None:
    answers = settlements(NEVER_S)
    answers.put("first", ACKED)
    await turns()
    assert not said

    answers.overtaken()
    await turns()

    assert said == [b"PUB first 4"]


async def test_nothing_lingers_for_ever(said: list[bytes]) -> None:
    answers = settlements(0.001)
    answers.put("first", ACKED)

    await wait_until(lambda: said)

    assert said == [b"PUB first 4"]


async def test_a_refusal_goes_at_once_with_what_lingers(said: list[bytes]) -> None:
    answers = settlements(NEVER_S)
    answers.put("first", ACKED)
    answers.put("second", REFUSED)
    await turns()

    assert said == [b"PUB first 4", b"PUB second 4"]


async def test_nothing_lingers_where_nobody_said_so(said: list[bytes]) -> None:
    settlements(0.0).put("first", ACKED)
    await turns()

    assert said == [b"PUB first 4"]


async def test_at_the_end_all_is_told(said: list[bytes]) -> None:
    answers = settlements(NEVER_S)
    answers.put("first", ACKED)

    await answers.flush()

    assert said == [b"PUB first 4"]
