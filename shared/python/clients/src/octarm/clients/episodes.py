"""Write entries of episodes: gathered, so that many travel as one request."""

import asyncio
import json
import re
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec
from msgspec import Raw
from nats.aio.client import Client as NATS
from pydantic import JsonValue

from octarm.clients.episode_answers import WAITING, Written, read_answers
from octarm.clients.write_behind import Window
from octarm.common.bus.requests import ask_raw
from octarm.models import subjects
from octarm.models.episodes import ENTRY_ID_PATTERN, MAX_ENTRY_BYTES, MAX_WRITES, Durability
from octarm.models.errors import (
    InvalidRequest,
    OctarmError,
    PayloadTooLarge,
    Unavailable,
)
from octarm.models.hot_episodes import EpisodeWrite, WriteEpisodes
from octarm.models.ids import EPISODE_ID_PATTERN

IN_FLIGHT: Final = 4
# Fast writes for which another request is begun beside the one that is under way.
WORTH_A_REQUEST: Final = 64
MAX_WRITERS: Final = 1_000
MAX_REQUEST_BYTES: Final = 512 * 1024
REQUEST_TIMEOUT_S: Final = 5.0
AGAIN_WITHIN_S: Final = 10.0
FIRST_PAUSE_S: Final = 0.05
MAX_PAUSE_S: Final = 1.0

Request = Callable[[bytes], Awaitable[bytes]]


_BROKEN_OFF: Final = Unavailable("the request broke off; it may have been written")
_IS_ENTRY: Final = re.compile(ENTRY_ID_PATTERN).fullmatch
_IS_EPISODE: Final = re.compile(EPISODE_ID_PATTERN).fullmatch
_encode = msgspec.json.Encoder().encode
Waiting = tuple[EpisodeWrite, "asyncio.Future[Written] | Window"]


def over(nc: NATS) -> Request:
    """Give the way to the memory service over a connection that somebody else closes."""

    async def request(body: bytes) -> bytes:
        subject = subjects.WRITE_EPISODES.at()
        return await ask_raw(nc, subject, body, timeout_s=REQUEST_TIMEOUT_S)

    return request


def as_body(value: JsonValue) -> Raw:
    """Write a value as the body of an entry.

    Raises:
        InvalidRequest: it is no JSON.
        PayloadTooLarge: it is above 64 KiB.
    """
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        body = text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"the body of an entry must be JSON: {error}") from error
    if len(body) > MAX_ENTRY_BYTES:
        raise PayloadTooLarge(f"an entry has {MAX_ENTRY_BYTES} bytes at most, not {len(body)}")
    return Raw(body)


class EpisodeWriter:
    """Writes of one tenant; while requests are under way, what comes gathers for the next.

    A write that gets no answer is sent again, for ten seconds: its id makes that harmless.
    """

    def __init__(self, request: Request, tenant: str) -> None:
        self._request = request
        self._tenant = tenant
        self._waiting: dict[Durability, deque[Waiting]] = {"fast": deque(), "durable": deque()}
        self._busy: dict[Durability, int] = {"fast": 0, "durable": 0}
        self._sending: set[asyncio.Task[None]] = set()

    async def write(self, write: EpisodeWrite, durability: Durability = "durable") -> Written:
        """Write one entry, and return when it is kept as `durability` promises.

        Raises:
            InvalidRequest: an id is none.
            NotFound: there is no such episode.
            Conflict: the episode is closed or full.
            Unavailable: no answer in time; it may have been written.
        """
        _must_be_ids(write)
        if not self._waiting[durability] and not self._busy[durability]:
            return await self._alone(write, durability)
        future: asyncio.Future[Written] = asyncio.get_running_loop().create_future()
        self._waiting[durability].append((write, future))
        self._begin(durability)
        return await future

    async def write_behind(self, write: EpisodeWrite, window: Window) -> Written:
        """Take one entry for the next request; waits only while its episode's window is full.

        Raises:
            InvalidRequest: an id is none.
            OctarmError: an earlier write of the window was refused; this one was not taken.
        """
        _must_be_ids(write)
        size = _size(write)
        await window.room(size)
        window.take(size)
        self._waiting["fast"].append((write, window))
        self._begin("fast")
        return WAITING

    async def settled(self) -> None:
        """Return once nothing is under way or waits."""
        while self._sending:
            await asyncio.wait(self._sending)

    async def _alone(self, write: EpisodeWrite, durability: Durability) -> Written:
        """Send one while nothing else is under way, without a task of its own."""
        self._busy[durability] += 1
        try:
            (answer,) = await self._send([write], durability)
        finally:
            self._busy[durability] -= 1
            self._begin(durability)
        if isinstance(answer, OctarmError):
            raise answer
        return answer

    def _begin(self, durability: Durability) -> None:
        waiting, busy = len(self._waiting[durability]), self._busy[durability]
        if not waiting or busy >= IN_FLIGHT:
            return
        if busy and durability == "fast" and waiting < WORTH_A_REQUEST:
            return
        self._busy[durability] += 1
        task = asyncio.create_task(self._run(durability))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _run(self, durability: Durability) -> None:
        waiting = self._waiting[durability]
        try:
            while waiting:
                group = _taken(waiting)
                answers: Sequence[Written | OctarmError] = [_BROKEN_OFF] * len(group)
                try:
                    answers = await self._send([write for write, _ in group], durability)
                finally:
                    for (write, whose), answer in zip(group, answers, strict=True):
                        _tell(whose, write, answer)
        finally:
            self._busy[durability] -= 1

    async def _send(
        self, writes: Sequence[EpisodeWrite], durability: Durability
    ) -> list[Written | OctarmError]:
        answers: list[Written | OctarmError] = [Unavailable("not sent")] * len(writes)
        places = list(range(len(writes)))
        until, pause_s = time.monotonic() + AGAIN_WITHIN_S, FIRST_PAUSE_S
        while True:
            found = await self._ask([writes[place] for place in places], durability)
            for place, answer in zip(places, found, strict=True):
                answers[place] = answer
            places = [place for place in places if _comes_again(answers[place])]
            if not places or time.monotonic() + pause_s > until:
                return answers
            await asyncio.sleep(pause_s)
            pause_s = min(MAX_PAUSE_S, pause_s * 2)

    async def _ask(
        self, writes: list[EpisodeWrite], durability: Durability
    ) -> Sequence[Written | OctarmError]:
        body = _encode(WriteEpisodes(self._tenant, writes, durability))
        try:
            return read_answers(await self._request(body), len(writes))
        except OctarmError as error:
            return [error] * len(writes)


class Writers:
    """One writer for each tenant, over one connection, as many as were used of late."""

    def __init__(self, nc: NATS) -> None:
        self._request = over(nc)
        self._writers: dict[str, EpisodeWriter] = {}

    def of(self, tenant: str) -> EpisodeWriter:
        """Give the writer of a tenant."""
        writer = self._writers.get(tenant)
        if writer is None:
            if len(self._writers) >= MAX_WRITERS:
                # Whoever has it goes on with it; the next one gathers anew.
                self._writers.pop(next(iter(self._writers)))
            writer = self._writers[tenant] = EpisodeWriter(self._request, tenant)
        return writer

    async def settled(self) -> None:
        """Return once no writer has anything under way."""
        for writer in list(self._writers.values()):
            await writer.settled()


def _must_be_ids(write: EpisodeWrite) -> None:
    if not (_IS_ENTRY(write.entry_id) and _IS_EPISODE(write.episode_id)):
        # Or it would spoil the request for all who share it.
        raise InvalidRequest("an entry's id is 1 to 64 letters, digits and `_.:-`")


def _size(write: EpisodeWrite) -> int:
    return len(memoryview(write.body)) + 500


def _tell(
    whose: "asyncio.Future[Written] | Window", write: EpisodeWrite, answer: Written | OctarmError
) -> None:
    refusal = answer if isinstance(answer, OctarmError) else None
    if isinstance(whose, Window):
        whose.answered(_size(write), refusal)
    elif whose.done():
        return
    elif isinstance(answer, OctarmError):
        whose.set_exception(answer)
    else:
        whose.set_result(answer)


def _taken(waiting: deque[Waiting]) -> list[Waiting]:
    """Take what fits one request."""
    group: list[Waiting] = []
    size = 0
    while waiting and len(group) < MAX_WRITES:
        size += _size(waiting[0][0])
        if group and size > MAX_REQUEST_BYTES:
            break
        group.append(waiting.popleft())
    return group


def _comes_again(answer: Written | OctarmError) -> bool:
    return isinstance(answer, OctarmError) and answer.retryable
