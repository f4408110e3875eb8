"""Reading the bus without changing it: what streams hold, the history of events, dead letters."""

import asyncio
import base64
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from math import inf
from typing import Final, NamedTuple

import msgspec
from nats.aio.client import Client as NATS
from nats.aio.msg import Msg
from nats.js.errors import NotFoundError

from octarm.common.bus.history import read_stream
from octarm.common.bus.letters import read_letter
from octarm.models import subjects as s
from octarm.models.errors import Unavailable
from octarm.verify.notebook import TaskFact

WORK_QUEUES: Final = (s.INTAKE, s.READY, s.DISPATCH, s.RESULTS, s.ENDED, s.EPISODES)
CLOCK_MARGIN_S: Final = 5.0
FETCH: Final = 1_000
SILENT_S: Final = 30.0
_TASK_EVENTS: Final = s.TASK_EVENTS.pattern.partition("*")[0]
_LEADERS: Final = s.LEAD_SHARD.pattern.partition("*")[0]
_ARM_EVENTS: Final = s.ARM_EVENT.pattern.partition("*")[0]


class _Event(msgspec.Struct):
    type: str
    task_id: str
    tenant: str
    seq: int
    attempt: int
    occurred_at: datetime


class _Events(msgspec.Struct):
    events: list[_Event]


class _Named(msgspec.Struct):
    task_id: str | None = None


_events = msgspec.json.Decoder(_Events).decode
_named = msgspec.json.Decoder(_Named).decode


@dataclass(frozen=True, slots=True)
class StreamState:
    """What a stream holds, and since when (Unix seconds) everything that came is in it."""

    messages: int
    last_seq: int
    first_seq: int
    complete_since: float


class Told(NamedTuple):
    """What one message of EVENTS tells."""

    tasks: list[TaskFact]
    arms: list[tuple[str, str]]


async def left_in(nc: NATS, stream: str) -> int | None:
    """Count what a work queue still holds; None when there is none."""
    try:
        info = await nc.jetstream(timeout=10).stream_info(stream, subjects_filter=">")
    except NotFoundError:
        return None
    held = info.state.subjects or {}
    # By whom a shard is led stays, as long as it is led.
    return sum(number for subject, number in held.items() if not subject.startswith(_LEADERS))


async def stream_state(nc: NATS, stream: str) -> StreamState | None:
    """Look at a stream; None when there is none."""
    js = nc.jetstream(timeout=10)
    try:
        info = await js.stream_info(stream)
        state = info.state
        since = _seconds(info.created) - CLOCK_MARGIN_S
        if state.first_seq > 1:
            # It has forgotten its beginning; with nothing left it has forgotten everything.
            first = await js.get_msg(stream, state.first_seq) if state.messages else None
            since = _seconds(first.time) + CLOCK_MARGIN_S if first else inf
    except NotFoundError:
        return None
    return StreamState(state.messages, state.last_seq, state.first_seq, since)


def _seconds(moment: datetime | None) -> float:
    return moment.timestamp() if moment else inf


def _ignore(_: Exception) -> None:
    """Reading goes on behind the last message that was read."""


async def told(nc: NATS, state: StreamState) -> AsyncGenerator[Told, None]:
    """Give what EVENTS holds now, message by message."""
    async with aclosing(_messages(nc, s.EVENTS, state)) as messages:
        async for message in messages:
            yield Told(list(_facts(message)), list(_flips(message)))


def _flips(message: Msg) -> Iterator[tuple[str, str]]:
    """Give (arm, what became of it) if the message tells of an arm."""
    if message.subject.startswith(_ARM_EVENTS):
        verb, arm_id = message.subject.removeprefix(_ARM_EVENTS).split(".")
        yield arm_id, verb


def _facts(message: Msg) -> Iterator[TaskFact]:
    """Take a message of EVENTS apart: the one place that knows its form."""
    if not message.subject.startswith(_TASK_EVENTS):
        return
    for event in _events(message.data).events:
        yield TaskFact(
            event.task_id,
            event.seq,
            event.type.removeprefix("task."),
            event.attempt,
            event.tenant,
            event.occurred_at.timestamp(),
        )


async def dead_letters(
    nc: NATS, state: StreamState
) -> AsyncGenerator[tuple[str, int, str | None], None]:
    """Give (origin, sequence in its stream, task id if it can be told) of each dead letter."""
    async with aclosing(_messages(nc, s.DLQ, state)) as messages:
        async for message in messages:
            letter = read_letter(message.headers or {}, message.data)
            if letter is not None:
                task_id = letter.task_id or _task_of(base64.b64decode(letter.first_bytes))
                yield letter.origin, letter.stream_seq, task_id


def _task_of(first_bytes: bytes) -> str | None:
    try:
        return _named(first_bytes).task_id
    except msgspec.MsgspecError:
        return None


async def _messages(nc: NATS, stream: str, state: StreamState) -> AsyncGenerator[Msg, None]:
    if not state.messages:
        return
    reading = read_stream(
        nc, stream, ">", after=state.first_seq - 1, interrupted=_ignore, batch=FETCH
    )
    async with aclosing(reading) as messages:
        while True:
            message = await _next(messages, stream)
            yield message
            place = message.metadata
            if place.sequence.stream >= state.last_seq or not place.num_pending:
                return


async def _next(messages: AsyncGenerator[Msg, None], stream: str) -> Msg:
    try:
        async with asyncio.timeout(SILENT_S):
            return await anext(messages)
    except TimeoutError as error:
        raise Unavailable(
            f"{stream} could not be read to its end",
            "It was emptied meanwhile, or NATS is away: try again.",
        ) from error
