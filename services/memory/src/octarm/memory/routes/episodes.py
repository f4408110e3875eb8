"""The queries about episodes: what is hot answered here, the rest on the control plane."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import msgspec
from faststream.nats import NatsRouter
from nats.aio.client import Client as NATS
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from pydantic import ValidationError

from octarm.common.bus import wire
from octarm.common.bus.requests import answer, ok, problem, reply_of
from octarm.common.telemetry import get_logger
from octarm.memory.domain.entries import encode
from octarm.memory.usecases.lasting import ForgetOne
from octarm.memory.usecases.reading import ListEpisodes, ShowEpisode, Shown
from octarm.memory.usecases.writing import Answer, WriteEpisodes
from octarm.models import subjects
from octarm.models.episodes import (
    EpisodeForgotten,
    EpisodesFound,
    FindEpisodes,
    ForgetEpisode,
    GetEpisode,
)
from octarm.models.errors import Backpressure, InvalidRequest, OctarmError, PayloadTooLarge
from octarm.models.hot_episodes import WriteEpisodes as Wanted
from octarm.models.hot_types import NOT_UNDERSTOOD

QUEUE: Final = "memory"
MAX_IN_HAND: Final = 2_000
# Answers that wait for the socket; those past it wait for each other.
MAX_BEHIND: Final = 64 * 1024

log = get_logger()
_decode = msgspec.json.Decoder(Wanted).decode


def episode_routes(find: ListEpisodes, forget: ForgetOne) -> NatsRouter:
    """Give the control plane of episodes; nothing connects until a broker includes it."""
    router = NatsRouter()

    @answer(router, subjects.FIND_EPISODES, queue=QUEUE)
    async def find_episodes(query: FindEpisodes) -> EpisodesFound:
        return await find(query)

    @answer(router, subjects.FORGET_EPISODE, queue=QUEUE)
    async def forget_episode(query: ForgetEpisode) -> EpisodeForgotten:
        return await forget(query)

    return router


class EpisodeResponder:
    """Answers writes and reads of single episodes: too many for the control plane."""

    def __init__(self, nc: NATS, write: WriteEpisodes, show: ShowEpisode) -> None:
        self._nc = nc
        self._write = write
        self._show = show
        self._in_hand: set[asyncio.Future[None]] = set()
        self._subscriptions: list[Subscription] = []

    async def start(self) -> None:
        """Subscribe, sharing the work with the other replicas."""
        for query, take in (
            (subjects.WRITE_EPISODES, self._take_write),
            (subjects.GET_EPISODE, self._take_read),
        ):
            subscription = await wire.listen(self._nc, query.at(), take, queue=QUEUE)
            self._subscriptions.append(subscription)
        await self._nc.flush()

    async def stop(self) -> None:
        """Take nothing more, and answer all that is in hand."""
        for subscription in self._subscriptions:
            await wire.take_no_more(self._nc, subscription)
        while self._in_hand:
            await asyncio.wait(self._in_hand)

    def _take_write(self, msg: Msg) -> None:
        self._begin(self._answer(msg, _refuse if self._is_full() else self._written))

    def _take_read(self, msg: Msg) -> None:
        if self._is_full():
            self._begin(self._answer(msg, _refuse))
        elif not self._show_at_once(msg):
            self._begin(self._answer(msg, self._shown))

    def _is_full(self) -> bool:
        return len(self._in_hand) >= MAX_IN_HAND

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        # The next one must not wait for the answer of this one.
        task = asyncio.create_task(work)
        self._in_hand.add(task)
        task.add_done_callback(self._in_hand.discard)

    def _show_at_once(self, msg: Msg) -> bool:
        """Answer what Redis has where its answer is read, without a task.

        False: nothing has begun. Whatever else there is to say, a task finds out.
        """
        try:
            query = GetEpisode.model_validate_json(msg.data)
        except ValidationError:
            return False
        asked: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def tell(shown: Shown | None) -> None:
            try:
                if shown is None:
                    self._begin(self._answer(msg, self._shown))
                else:
                    self._reply_at_once(msg, ok(_found(shown)))
            finally:
                self._in_hand.discard(asked)
                asked.set_result(None)

        self._in_hand.add(asked)
        begun = self._show.begin(query, tell)
        if not begun:
            self._in_hand.discard(asked)
        return begun

    async def _answer(self, msg: Msg, handle: Callable[[bytes], Awaitable[bytes]]) -> None:
        reply = await reply_of(handle, msg.data, msg.subject)
        await self._reply(msg, reply)

    async def _reply(self, msg: Msg, body: bytes) -> None:
        try:
            if command := self._command(msg, body):
                await wire.write_commands(self._nc, command)
        except (NatsError, OSError):
            log.warning("reply_not_sent")

    def _reply_at_once(self, msg: Msg, body: bytes) -> None:
        command = self._command(msg, body)
        if command and not wire.write_at_once(self._nc, command, behind=MAX_BEHIND):
            self._begin(self._reply(msg, body))

    def _command(self, msg: Msg, body: bytes) -> bytes:
        if not wire.is_subject(msg.reply):
            return b""
        if len(body) > self._nc.max_payload:
            body = problem(PayloadTooLarge("the answer does not fit the bus"))
        return wire.publication(msg.reply, body)

    async def _written(self, data: bytes) -> bytes:
        try:
            wanted = _decode(data)
        except NOT_UNDERSTOOD as error:
            raise InvalidRequest(f"not a valid write: {error}") from error
        answers = await self._write(wanted.tenant, wanted.durability, wanted.writes)
        return b'{"answers":[%b]}' % b",".join(map(_said, answers))

    async def _shown(self, data: bytes) -> bytes:
        return _found(await self._show(GetEpisode.model_validate_json(data)))


async def _refuse(_: bytes) -> bytes:
    raise Backpressure("too many requests", code="QUEUE_FULL", retry_after_s=1)


def _found(shown: Shown) -> bytes:
    how = {"source": shown.source, "degraded": shown.degraded, "complete": shown.complete}
    return encode({"episode": msgspec.Raw(shown.body), **how})


def _said(answer: Answer) -> bytes:
    if isinstance(answer, OctarmError):
        text = answer.problem().model_dump_json(exclude_none=True)
        return b'{"problem":' + text.encode() + b"}"
    return encode(answer)
