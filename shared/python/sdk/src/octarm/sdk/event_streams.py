"""Reading the EVENTS stream from any place on, through reconnects, without a gap."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from nats.aio.client import Client as NATS
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.client import JetStreamContext
from nats.js.errors import NotFoundError
from pydantic import TypeAdapter, ValidationError

from octarm.models.events import AnyTaskEvent
from octarm.models.ids import is_token
from octarm.models.subjects import EVENTS, TASK_EVENT, NotASubjectToken

FETCH: Final = 200
FETCH_TIMEOUT_S: Final = 5.0
INACTIVE_S: Final = 60.0
FIRST_BACKOFF_S: Final = 0.1
MAX_BACKOFF_S: Final = 2.0

# A library in somebody's program: silent unless that program wants to hear it.
log = logging.getLogger(__name__)
_events: TypeAdapter[AnyTaskEvent] = TypeAdapter(AnyTaskEvent)
Pull = JetStreamContext.PullSubscription


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
    if not is_token(tenant) or (task_id and not is_token(task_id)):
        raise NotASubjectToken("tenant and task id must each be one token")
    return TASK_EVENT.template.format(verb="*", tenant=tenant, task_id=task_id or "*")


async def last_seq(nc: NATS) -> int:
    """Give the sequence of the newest event."""
    info = await nc.jetstream().stream_info(EVENTS)
    return info.state.last_seq


async def read_events(nc: NATS, subject: str, *, after: int) -> AsyncGenerator[StreamedEvent, None]:
    """Yield the events after a stream sequence, for ever.

    A consumer that is gone (the server restarted, the network was away) is made anew behind
    the last event that was yielded.
    """
    seq = after
    backoff_s = FIRST_BACKOFF_S
    while True:
        try:
            reading = _read(nc, subject, seq)
            try:
                async for event in reading:
                    backoff_s = FIRST_BACKOFF_S
                    seq = event.stream_seq
                    yield event
            finally:
                await reading.aclose()
        except (NatsError, OSError) as error:
            log.debug("event stream interrupted after %d: %r", seq, error)
            await asyncio.sleep(backoff_s)
            backoff_s = min(MAX_BACKOFF_S, backoff_s * 2)


async def _read(nc: NATS, subject: str, after: int) -> AsyncGenerator[StreamedEvent, None]:
    """Read with one consumer; ends by a NATS error when it is gone."""
    js = nc.jetstream()
    config = ConsumerConfig(
        deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
        opt_start_seq=after + 1,
        ack_policy=AckPolicy.NONE,
        inactive_threshold=INACTIVE_S,
        mem_storage=True,
        num_replicas=1,
    )
    subscription = await js.pull_subscribe(subject, stream=EVENTS, config=config)
    try:
        while True:
            for msg in await _fetch(subscription):
                event = _event(msg)
                if event is not None:
                    yield event
    finally:
        await _close(js, subscription)


async def _fetch(subscription: Pull) -> list[Msg]:
    try:
        return await subscription.fetch(FETCH, timeout=FETCH_TIMEOUT_S)
    except TimeoutError:
        # Silence, or nobody is there any more: the server knows.
        await subscription.consumer_info()
        return []


async def _close(js: JetStreamContext, subscription: Pull) -> None:
    try:
        name = (await subscription.consumer_info()).name
        await subscription.unsubscribe()
        await js.delete_consumer(EVENTS, name)
    except (NatsError, OSError, NotFoundError, TimeoutError):
        # It goes by itself when it has been inactive for a minute.
        return


def _event(msg: Msg) -> StreamedEvent | None:
    try:
        fact = _events.validate_json(msg.data)
    except ValidationError:
        log.debug("event not understood on %s", msg.subject)
        return None
    return StreamedEvent(msg.metadata.sequence.stream, fact)
