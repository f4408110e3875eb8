"""Reading what happened to tasks: EVENTS carries bundles, readers want single events.

The place of an event is one number: its message's stream sequence and its number within the
message. Whoever knows the last place that it saw goes on behind it.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import datetime
from typing import Final

import msgspec
from nats.aio.client import Client as NATS

from octarm.common.bus.history import read_stream
from octarm.models import hot
from octarm.models.hot_types import NOT_UNDERSTOOD
from octarm.models.subjects import EVENTS, TASK_EVENTS, event_bucket

# A message holds at most 64 events, so no two events of the stream share a place.
PER_MESSAGE: Final = 64
_bundle = msgspec.json.Decoder(hot.TaskEvents).decode
_key = msgspec.json.Decoder(hot.TaskEventKey).decode


class PlacedEvent(msgspec.Struct, frozen=True, gc=False):
    """One event and its place in the stream; `verb` is its type without `task.`."""

    place: int
    verb: str
    task_id: str
    body: bytes


def stream_seq(place: int) -> int:
    """Give the sequence of the message that holds the event at a place."""
    return place // PER_MESSAGE


def place_behind(seq: int) -> int:
    """Give the place after which only messages behind a stream sequence come."""
    return seq * PER_MESSAGE + PER_MESSAGE - 1


def events_subject(tenant: str, task_id: str = "", *, what: str = "*") -> str:
    """Give the filter for the events of a tenant, or those that one of its tasks is among."""
    known = {"tenant": tenant} | ({"what": what} if what != "*" else {})
    if task_id:
        known["bucket"] = str(event_bucket(task_id))
    return TASK_EVENTS.matching(**known)


def events_in(data: bytes, *, seq: int = 0, task_id: str = "") -> list[PlacedEvent]:
    """Take a bundle apart; with `task_id` only that task's events.

    Raises:
        msgspec.MsgspecError: it is not a bundle.
    """
    if task_id and task_id.encode() not in data:
        return []
    found = []
    for number, raw in enumerate(_bundle(data).events):
        body = bytes(raw)
        key = _key(body)
        if not task_id or key.task_id == task_id:
            place = seq * PER_MESSAGE + number
            found.append(PlacedEvent(place, key.type.partition(".")[2], key.task_id, body))
    return found


async def read_task_events(
    nc: NATS,
    tenant: str,
    task_id: str = "",
    *,
    after: int,
    since: datetime | None = None,
    interrupted: Callable[[Exception], None],
) -> AsyncGenerator[PlacedEvent, None]:
    """Yield a tenant's events, or one task's, behind the place `after`, for ever; close it.

    `since` spares reading what was stored before that time; it counts only while `after` is 0.
    `interrupted` is told of each replaced consumer and of each message that is not understood.
    """
    # The message that holds the place is read again: it may hold more behind it.
    first = max(stream_seq(after) - 1, 0)
    reading = read_stream(
        nc,
        EVENTS,
        events_subject(tenant, task_id),
        after=first,
        since=None if after else since,
        interrupted=interrupted,
    )
    async with aclosing(reading) as messages:
        async for message in messages:
            seq = message.metadata.sequence.stream
            try:
                events = events_in(message.data, seq=seq, task_id=task_id)
            except NOT_UNDERSTOOD as error:
                interrupted(error)
                continue
            for event in events:
                if event.place > after:
                    yield event
