"""What the scheduler hears and is asked: translation only."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import msgspec
from faststream.nats import NatsRouter
from nats.aio.client import Client as NATS
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from octarm.common.bus import flood
from octarm.common.bus.requests import answer
from octarm.common.bus.wire import listen
from octarm.common.clock import Clock, SystemClock
from octarm.common.telemetry import get_logger
from octarm.models.hot import Heartbeat, ResultKey, ResultKeys
from octarm.models.hot_types import NOT_UNDERSTOOD
from octarm.models.policies import DifferencesFound, GetDifferences
from octarm.models.queries import GetQueue, QueueView, Waiting, WhyWaiting
from octarm.models.subjects import (
    GET_QUEUE,
    HEARTBEAT,
    RESULT,
    RESULTS_REPORTED,
    RUN_TASKS,
    SHADOW_DIFFERENCES,
    SPEND_REPORTED,
    STOPPED,
    TASK_EVENTS,
    WHY_WAITING,
)
from octarm.scheduler.usecases.answer import ExplainWait, ShowQueue
from octarm.scheduler.usecases.follow import CountSpend, EndAttempts, FreeSlot, Spends, Stopped
from octarm.scheduler.usecases.rivals import Placements, Rivals

M = TypeVar("M")

log = get_logger()


def questions(
    show_queue: ShowQueue,
    explain_wait: ExplainWait,
    differences: Callable[[], DifferencesFound],
    *,
    shard: int,
) -> NatsRouter:
    """Answer for the shard that this process leads; nobody else may."""
    router = NatsRouter()

    @answer(router, GET_QUEUE, queue="", at={"shard": shard})
    async def get_queue(question: GetQueue) -> QueueView:
        return await show_queue(question)

    @answer(router, WHY_WAITING, queue="", at={"shard": shard})
    async def why_waiting(question: WhyWaiting) -> Waiting:
        return await explain_wait(question)

    @answer(router, SHADOW_DIFFERENCES, queue="", at={"shard": shard})
    async def shadow_differences(_: GetDifferences) -> DifferencesFound:
        return differences()

    return router


async def hear_heartbeats(
    nc: NATS, hear: Callable[[Heartbeat], Awaitable[None]], *, clock: Clock | None = None
) -> Subscription:
    """Follow every instance of every arm; the caller unsubscribes."""
    read = _reader(Heartbeat)

    async def received(message: Msg) -> None:
        if (beat := read(message)) is not None:
            await hear(beat)

    return await flood.hear_beats(nc, HEARTBEAT.pattern, received, clock=clock or SystemClock())


@dataclass(frozen=True, slots=True)
class Endings:
    """Follow what frees slots and what calls waiting tasks off."""

    free_slot: FreeSlot
    end_attempts: EndAttempts
    rivals: Rivals | None = None
    count_spend: CountSpend | None = None

    async def subscribe(self, nc: NATS) -> list[Subscription]:
        """Begin; the caller unsubscribes.

        Plain subscriptions instead of FastStream's: two of these come with every task.
        """

        def results(keys: ResultKeys) -> None:
            for key in keys.results:
                self._free(key)

        def stopped(bundle: Stopped) -> None:
            for event in bundle.events:
                self.end_attempts(event)

        stops = TASK_EVENTS.matching(what=STOPPED)
        subscriptions = [
            await _listen(nc, RESULT.pattern, ResultKey, self._free),
            await _listen(nc, RESULTS_REPORTED.pattern, ResultKeys, results),
            await _listen(nc, stops, Stopped, stopped),
        ]
        if self.rivals is not None:
            subscriptions.append(await _listen_to_rivals(nc, self.rivals))
        if self.count_spend is not None:
            subscriptions.append(await _listen_to_spends(nc, self.count_spend))
        return subscriptions

    def _free(self, key: ResultKey) -> None:
        if self.rivals is not None:
            self.rivals.ending(key)
        self.free_slot(key)


async def _listen_to_rivals(nc: NATS, rivals: Rivals) -> Subscription:
    return await _listen(nc, RUN_TASKS.pattern, Placements, rivals.placed)


async def _listen_to_spends(nc: NATS, count_spend: CountSpend) -> Subscription:
    return await _listen(nc, SPEND_REPORTED.pattern, Spends, count_spend)


async def _listen(
    nc: NATS, subject: str, kind: type[M], handle: Callable[[M], object]
) -> Subscription:
    read = _reader(kind)

    def received(message: Msg) -> None:
        if (decoded := read(message)) is not None:
            handle(decoded)

    return await listen(nc, subject, received)


def _reader(kind: type[M]) -> Callable[[Msg], M | None]:
    decode = msgspec.json.Decoder(kind).decode

    def read(message: Msg) -> M | None:
        try:
            return decode(message.data)
        except NOT_UNDERSTOOD as error:
            log.warning("message_not_understood", subject=message.subject, error=str(error)[:300])
            return None

    return read
