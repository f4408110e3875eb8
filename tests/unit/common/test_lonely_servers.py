"""A server that tells that it has lost its cluster is left."""

from typing import Any

from nats.aio.client import Client as NATS

from octarm.common.bus.connection import leaving_the_lonely

ALL = {"connect_urls": ["192.0.2.1:4222", "192.0.2.2:4222", "192.0.2.3:4222"]}
ALONE = {"connect_urls": ["192.0.2.1:4222"]}


class Connection(NATS):
    """Counts how often it was sent elsewhere."""

    def __init__(self, told: dict[str, Any]) -> None:
        super().__init__()
        self._server_info = told
        self.moved = 0

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        self._server_info = info

    async def force_reconnect(self) -> None:
        self.moved += 1


async def test_moves_once_when_a_server_has_lost_the_others() -> None:
    connection = Connection(ALL)
    leaving_the_lonely(connection)

    await connection._process_info(ALONE)
    await connection._process_info(ALONE)

    assert connection.moved == 1


async def test_stays_while_one_other_server_is_left() -> None:
    connection = Connection(ALL)
    leaving_the_lonely(connection)

    await connection._process_info({"connect_urls": ALL["connect_urls"][:2]})

    assert connection.moved == 0


async def test_stays_with_a_server_that_never_had_others() -> None:
    for told in ({}, ALONE):
        connection = Connection(told)
        leaving_the_lonely(connection)

        await connection._process_info(told)

        assert connection.moved == 0


async def test_does_not_leave_the_server_that_it_has_just_come_to() -> None:
    connection = Connection(ALL)
    leaving_the_lonely(connection)

    await connection._process_info(ALONE, True)

    assert connection.moved == 0
