"""Reading a stream from any sequence on, through reconnects, without a gap."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from datetime import datetime
from typing import Any, Final

from nats.aio.client import Client as NATS
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

FETCH: Final = 64
FETCH_S: Final = 5.0
FORGET_AFTER_S: Final = 30.0
FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 2.0


class MissedMessages(NatsError):
    """The server has sent messages that did not come."""


async def read_stream(
    nc: NATS,
    stream: str,
    subject: str,
    *,
    after: int,
    since: datetime | None = None,
    interrupted: Callable[[Exception], None],
    batch: int = FETCH,
) -> AsyncGenerator[Msg, None]:
    """Yield the messages of a stream after a sequence, in order, for ever, fetched by `batch`.

    With `since` and `after=0`, those stored at that time or later.

    A consumer that is gone, or whose messages were lost on the way (the server restarted, the
    network was away), is replaced behind the last message that was yielded, within about five
    seconds; `interrupted` is told why. The caller closes the generator, and with it the consumer.
    """
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            start = _start(after, since)
            async with aclosing(
                _read_consumer(nc, stream, subject, start, batch=batch)
            ) as messages:
                async for message in messages:
                    pause_s = FIRST_PAUSE_S
                    after = message.metadata.sequence.stream
                    yield message
        except (NatsError, OSError) as error:
            interrupted(error)
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, LONGEST_PAUSE_S)


def _start(after: int, since: datetime | None) -> dict[str, Any]:
    if since is not None and not after:
        return {"deliver_policy": DeliverPolicy.BY_START_TIME, "opt_start_time": since}
    return {"deliver_policy": DeliverPolicy.BY_START_SEQUENCE, "opt_start_seq": after + 1}


async def _read_consumer(
    nc: NATS, stream: str, subject: str, start: dict[str, Any], *, batch: int
) -> AsyncGenerator[Msg, None]:
    """Read with one consumer; ends by a NATS error when it is gone."""
    js = nc.jetstream()
    config = ConsumerConfig(
        **start,
        ack_policy=AckPolicy.NONE,
        inactive_threshold=FORGET_AFTER_S,
        mem_storage=True,
        num_replicas=1,
    )
    consumer = await js.pull_subscribe(subject, stream=stream, config=config)
    came = 0
    try:
        while True:
            for message in await _fetch(consumer, came, batch):
                came += 1
                if message.metadata.sequence.consumer != came:
                    raise MissedMessages
                yield message
    finally:
        with suppress(NatsError, OSError):
            await consumer.unsubscribe()
            # The client named it.
            await js.delete_consumer(stream, config.name or "")


async def _fetch(consumer: JetStreamContext.PullSubscription, came: int, batch: int) -> list[Msg]:
    try:
        return await consumer.fetch(batch, FETCH_S)
    except TimeoutError:
        # Silence; or the consumer is gone and the request fell into the void; or what it sent
        # was lost with a connection, for nobody acknowledges here: the server knows.
        delivered = (await consumer.consumer_info()).delivered
        if delivered is not None and delivered.consumer_seq > came:
            raise MissedMessages from None
        return []
