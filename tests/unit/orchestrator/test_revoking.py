"""Taking attempts back while the bus is slow."""

import asyncio
from typing import cast

from nats.aio.client import Client as NATS
from nats.errors import TimeoutError as NatsTimeout

from octarm.models.ids import new_id
from octarm.orchestrator.storage.revoking import BusRevoker
from octarm.orchestrator.usecases.record import Revocation


class SlowBus:
    """Deletes end only once all have begun; the first gets no answer."""

    def __init__(self, number: int) -> None:
        self.told: list[str] = []
        self._all = asyncio.Barrier(number)

    def jetstream(self, **_: object) -> "SlowBus":
        return self

    async def delete_msg(self, _: str, seq: int) -> None:
        await self._all.wait()
        if seq == 1:
            raise NatsTimeout

    async def publish(self, subject: str, _: bytes) -> None:
        self.told.append(subject)


async def test_revokes_side_by_side_and_goes_on_when_one_gets_no_answer() -> None:
    bus = SlowBus(10)
    lost = [Revocation(new_id("tsk"), 1, f"arm-{n}", n, "its lease ran out") for n in range(1, 11)]

    async with asyncio.timeout(2):
        await BusRevoker(cast(NATS, bus))(lost)

    assert sorted(bus.told) == sorted(f"octarm.v1.ctl.arm-{n}" for n in range(2, 11))
