"""Messages that nobody needs and that their queue has kept all the same.

nats-server removes a message with its last acknowledgement. While its disk is full it cannot
write the removal down, and such a message stays: nobody is given it again, and nobody but us
would ever take it away. An acknowledgement can also die with the node that leads the consumer;
READY would then be read again after an hour, though all of its tasks have gone on.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from datetime import timedelta
from typing import Final

import msgspec
from nats.aio.client import Client as NATS
from nats.errors import Error as NatsError
from nats.js.api import ConsumerInfo, RawStreamMsg
from nats.js.errors import NotFoundError

from octarm.common.bus.topology import HISTORY, STREAMS, consumers_of
from octarm.common.clock import Clock, SystemClock, set_within
from octarm.common.telemetry import get_logger
from octarm.models.errors import OctarmError
from octarm.models.hot import PlaceTasks
from octarm.models.hot_types import NOT_UNDERSTOOD
from octarm.models.queries import Outcome
from octarm.models.states import TaskState
from octarm.models.subjects import PLACE_TASKS, matches

QUEUES: Final = tuple(spec.name for spec in STREAMS if spec.retention is not HISTORY)
EVERY_S: Final = 20.0
# What is younger may be on its way out.
KEPT_FOR: Final = timedelta(seconds=20)
# So many messages of a queue are looked at in one turn.
LOOKS: Final = 100
TIMEOUT_S: Final = 2.0
UNPLACED: Final = frozenset({TaskState.QUEUED, TaskState.WAITING})

Outcomes = Callable[[str, list[str]], Awaitable[list[Outcome]]]
"""Says where a tenant's tasks stand."""
_decode = msgspec.json.Decoder(PlaceTasks).decode
log = get_logger()


class Leftovers:
    """Removes acknowledged messages that are still in a work queue; again does nothing."""

    def __init__(
        self,
        nc: NATS,
        queues: Sequence[str] = QUEUES,
        *,
        outcomes: Outcomes | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._outcomes = outcomes
        self._js = nc.jetstream(timeout=TIMEOUT_S)
        self._queues = queues
        self._clock = clock or SystemClock()

    async def run(self, stop: asyncio.Event) -> None:
        """Look every twenty seconds until `stop`; what fails is tried again next time."""
        while not await set_within(stop, EVERY_S):
            try:
                await self.sweep()
            except (NatsError, OSError, TimeoutError, OctarmError) as error:
                log.debug("leftovers_not_swept", error=repr(error))

    async def sweep(self) -> int:
        """Look through the queues once; gives how many messages were removed.

        Raises:
            NatsError, TimeoutError: JetStream does not answer.
            Unavailable: Postgres does not.
        """
        removed = 0
        for queue in self._queues:
            async with aclosing(self._old(queue)) as messages:
                async for message, readers in messages:
                    if is_acknowledged(message, readers) or await self._has_gone_on(message):
                        await self._js.delete_msg(queue, message.seq or 0)
                        removed += 1
        if removed:
            log.warning("leftovers_removed", messages=removed)
        return removed

    async def _has_gone_on(self, message: RawStreamMsg) -> bool:
        """Whether READY tells of nothing but attempts that were placed or are over."""
        if self._outcomes is None or not matches(PLACE_TASKS.pattern, message.subject or ""):
            return False
        try:
            tasks = _decode(message.data or b"").tasks
        except NOT_UNDERSTOOD:
            return False
        known: dict[str, Outcome] = {}
        for tenant in sorted({task.tenant for task in tasks}):
            own = [task.task_id for task in tasks if task.tenant == tenant]
            known |= {one.task_id: one for one in await self._outcomes(tenant, own)}
        return all(
            (one := known.get(task.task_id)) is not None
            and (one.attempt > task.attempt or one.state not in UNPLACED)
            for task in tasks
        )

    async def _old(
        self, queue: str
    ) -> AsyncGenerator[tuple[RawStreamMsg, list[ConsumerInfo]], None]:
        """Give the oldest messages of a queue, and who reads it, if any message is old."""
        readers: list[ConsumerInfo] = []
        state = (await self._js.stream_info(queue)).state
        seq, before = state.first_seq, self._clock.now() - KEPT_FOR
        for _ in range(min(LOOKS, state.messages)):
            try:
                message = await self._js.get_msg(queue, seq, ">", next=True)
            except NotFoundError:
                return
            if message.time is None or message.time > before:
                return
            # Read after the message was seen: its acknowledgement may have come since.
            readers = readers or await consumers_of(self._js, queue)
            yield message, readers
            seq = (message.seq or seq) + 1


def is_acknowledged(message: RawStreamMsg, readers: Sequence[ConsumerInfo]) -> bool:
    """Tell whether someone reads messages of this subject, and all who do have acknowledged it."""
    own = [one for one in readers if _reads(one, message.subject or "")]
    return bool(own) and all(
        one.ack_floor is not None and one.ack_floor.stream_seq >= (message.seq or 0) for one in own
    )


def _reads(reader: ConsumerInfo, subject: str) -> bool:
    config = reader.config
    if config is None:
        return True
    filters = config.filter_subjects or ([config.filter_subject] if config.filter_subject else [])
    return not filters or any(matches(pattern, subject) for pattern in filters)
