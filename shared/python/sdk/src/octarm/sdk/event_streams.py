"""Reading the EVENTS stream from any place on, through reconnects, without a gap."""

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime

from nats.aio.client import Client as NATS
from nats.aio.msg import Msg
from pydantic import TypeAdapter, ValidationError

from octarm.common.bus.history import read_stream
from octarm.models.events import AnyTaskEvent
from octarm.models.subjects import EVENTS, TASK_EVENT

# A library in somebody's program: silent unless that program wants to hear it.
log = logging.getLogger(__name__)
_events: TypeAdapter[AnyTaskEvent] = TypeAdapter(AnyTaskEvent)


@dataclass(frozen=True, slots=True)
class StreamedEvent:
    """A fact about a task, and where it stands: pass `stream_seq` as `after` to go on there."""

    stream_seq: int
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


def events_subject(tenant: str, task_id: str = "") -> str:
    """Give the filter for all events of a tenant, or of one of its tasks."""
    task = {"task_id": task_id} if task_id else {}
    return TASK_EVENT.matching(tenant=tenant, **task)


async def last_seq(nc: NATS) -> int:
    """Give the sequence of the newest event."""
    info = await nc.jetstream().stream_info(EVENTS)
    return info.state.last_seq


async def read_events(nc: NATS, subject: str, *, after: int) -> AsyncGenerator[StreamedEvent, None]:
    """Yield the events after a stream sequence, for ever, through reconnects; close it."""
    reading = read_stream(nc, EVENTS, subject, after=after, interrupted=_interrupted)
    async with aclosing(reading) as messages:
        async for message in messages:
            event = _event(message)
            if event is not None:
                yield event


def _interrupted(error: Exception) -> None:
    log.debug("event stream interrupted: %r", error)


def _event(msg: Msg) -> StreamedEvent | None:
    try:
        fact = _events.validate_json(msg.data)
    except ValidationError:
        log.debug("event not understood on %s", msg.subject)
        return None
    return StreamedEvent(msg.metadata.sequence.stream, fact)
