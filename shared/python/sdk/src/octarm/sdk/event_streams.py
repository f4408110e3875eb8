"""Reading the EVENTS stream from any place on, through reconnects, without a gap."""

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime

from nats.aio.client import Client as NATS
from pydantic import TypeAdapter, ValidationError

from octarm.common.bus.task_history import PlacedEvent, place_behind, read_task_events
from octarm.models.events import AnyTaskEvent
from octarm.models.subjects import EVENTS

# A library in somebody's program: silent unless that program wants to hear it.
log = logging.getLogger(__name__)
_events: TypeAdapter[AnyTaskEvent] = TypeAdapter(AnyTaskEvent)


@dataclass(frozen=True, slots=True)
class StreamedEvent:
    """A fact about a task, and its place: pass `place` as `after` to go on behind it."""

    place: int
    fact: AnyTaskEvent

    @property
    def type(self) -> str:
        """What kind of fact it is, such as `task.completed`."""
        return self.fact.type

    @property
    def task_id(self) -> str:
        """The task it is about."""
        return self.fact.task_id

    @property
    def occurred_at(self) -> datetime:
        """When it happened."""
        return self.fact.occurred_at


async def last_place(nc: NATS) -> int:
    """Give the place behind all events that there are."""
    info = await nc.jetstream().stream_info(EVENTS)
    return place_behind(info.state.last_seq)


async def read_events(
    nc: NATS, tenant: str, task_id: str = "", *, after: int, since: datetime | None = None
) -> AsyncGenerator[StreamedEvent, None]:
    """Yield the events behind a place, for ever, through reconnects; close it."""
    reading = read_task_events(
        nc, tenant, task_id, after=after, since=since, interrupted=_interrupted
    )
    async with aclosing(reading) as placed:
        async for found in placed:
            event = _event(found)
            if event is not None:
                yield event


def _interrupted(error: Exception) -> None:
    log.debug("event stream interrupted: %r", error)


def _event(found: PlacedEvent) -> StreamedEvent | None:
    try:
        fact = _events.validate_json(found.body)
    except ValidationError:
        log.debug("event %s not understood", found.place)
        return None
    return StreamedEvent(found.place, fact)
