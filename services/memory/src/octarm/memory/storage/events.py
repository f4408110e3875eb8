"""What the fleet is told of memories: written down with its cause, and then published."""

import asyncio
from datetime import datetime
from typing import Any, Final, Literal, cast

from octarm.common import telemetry
from octarm.common.bus.cloud_events import cloud_event
from octarm.common.bus.publisher import Outgoing, Publisher
from octarm.common.clock import set_within
from octarm.common.storage.connections import Pool, transaction
from octarm.memory.storage.errors import postgres_errors
from octarm.models.errors import OctarmError
from octarm.models.events import MemoryEvent
from octarm.models.ids import event_id
from octarm.models.subjects import MEMORY_EVENT

LOOK_EVERY_S: Final = 2.0
AT_ONCE: Final = 500
# A memory is promoted once and expires once: each has an id that follows from the memory's.
_NUMBERS: Final = {"promoted": 1, "expired": 2}

NOTE: Final = "insert into memory.untold (tenant, memory_id, verb) values (%s, %s, %s)"
_SOME: Final = """
select seq, tenant, memory_id, verb, at from memory.untold order by seq limit %s
for update skip locked
"""
_TOLD: Final = "delete from memory.untold where seq = any(%s)"

log = telemetry.get_logger()


class MemoryEvents:
    """Publishes what was written down; what is told twice has the same id and bytes."""

    def __init__(self, pool: Pool, publisher: Publisher) -> None:
        self._pool = pool
        self._publisher = publisher

    async def run(self, stop: asyncio.Event) -> None:
        """Tell until `stop` is set; what is not acknowledged is told with the next look."""
        while not stop.is_set():
            try:
                while await self.tell():
                    pass
            except OctarmError as error:
                log.warning("memory_events_not_told", error=error.message)
            await set_within(stop, LOOK_EVERY_S)

    async def tell(self) -> int:
        """Publish some; gives how many.

        Raises:
            OctarmError: the stream or Postgres does not answer.
        """
        with postgres_errors():
            async with transaction(self._pool) as connection:
                rows = await (await connection.execute(_SOME, [AT_ONCE])).fetchall()
                if not rows:
                    return 0
                answers = await self._publisher.publish_many([_outgoing(row) for row in rows])
                refused = [one for one in answers if isinstance(one, OctarmError)]
                told = [
                    row[0]
                    for row, answer in zip(rows, answers, strict=True)
                    if not isinstance(answer, OctarmError)
                ]
                await connection.execute(_TOLD, [told])
        if refused:
            raise refused[0]
        return len(told)


def _outgoing(row: tuple[Any, ...]) -> Outgoing:
    """Give a row as it stands in EVENTS."""
    _, tenant, memory_id, verb, at = row
    assert isinstance(at, datetime)
    kind = cast('Literal["memory.promoted", "memory.expired"]', f"memory.{verb}")
    event = MemoryEvent(
        event_id=event_id(memory_id, _NUMBERS[verb]),
        occurred_at=at,
        type=kind,
        tenant=tenant,
        memory_id=memory_id,
    )
    subject = MEMORY_EVENT.at(verb=verb, tenant=tenant, memory_id=memory_id)
    return cloud_event(subject, event, source="memory", about=memory_id)
