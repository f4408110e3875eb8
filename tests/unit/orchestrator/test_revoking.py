"""Taking attempts back while the bus is slow."""

import asyncio
from typing import cast

from nats.aio.client import Client as NATS
from nats.errors import TimeoutError as NatsTimeout
from nats.js.api import RawStreamMsg

from octarm.models.ids import new_id
from octarm.orchestrator.storage.revoking import BusRevoker
from octarm.orchestrator.usecases.record import Revocation
from tests.support.ledger import a_command


class SlowBus:
    """Deletes end only once all have begun; the first gets no answer."""

    def __init__(self, number: int) -> None:
        self.told: list[str] = []
        self.deleted: list[int] = []
        self.commands: dict[int, bytes] = {}
        self._all = asyncio.Barrier(number)

    def jetstream(self, **_: object) -> "SlowBus":
        return self

    async def get_msg(self, _: str, seq: int) -> RawStreamMsg:
        return RawStreamMsg(seq=seq, data=self.commands[seq])

    async def delete_msg(self, _: str, seq: int) -> None:
        await self._all.wait()
        self.deleted.append(seq)
        if seq == 1:
            raise NatsTimeout

    async def publish(self, subject: str, _: bytes) -> None:
        self.told.append(subject)


async def test_revokes_side_by_side_and_goes_on_when_one_gets_no_answer() -> None:
    bus = SlowBus(10)
    lost = [Revocation(new_id("tsk"), 1, f"arm-{n}", n, "its lease ran out") for n in range(1, 11)]
    bus.commands = {n: a_command(item.task_id) for n, item in enumerate(lost, 1)}

    async with asyncio.timeout(60):
        await BusRevoker(cast(NATS, bus))(lost)

    assert sorted(bus.told) == sorted(f"octarm.v1.ctl.arm-{n}" for n in range(2, 11))


async def test_leaves_the_command_that_has_got_the_number_in_a_new_stream() -> None:
    bus = SlowBus(1)
    bus.commands = {7: a_command(new_id("tsk")), 8: b"{"}

    for seq in (7, 8):
        await BusRevoker(cast(NATS, bus))([Revocation(new_id("tsk"), 1, "arm", seq, "it is over")])

    assert bus.deleted == []
    assert bus.told == ["octarm.v1.ctl.arm"] * 2


async def test_deletes_a_bundle_once_all_in_it_is_revoked() -> None:
    bus, three = SlowBus(1), [new_id("tsk") for _ in range(3)]
    bus.commands = {7: a_command(*three)}
    revoke = BusRevoker(cast(NATS, bus))
    first, second, third = [Revocation(one, 1, "arm", 7, "it is over") for one in three]

    await revoke([first])
    before = list(bus.deleted)
    await revoke([second, third])

    assert (before, bus.deleted) == ([], [7])
    assert bus.told == ["octarm.v1.ctl.arm"] * 3
