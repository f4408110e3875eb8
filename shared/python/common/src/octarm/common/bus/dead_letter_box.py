"""The DLQ stream as a box of letters: look through it, send letters back, throw them away."""

import asyncio
import base64
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

import msgspec
from nats.aio.client import Client as NATS
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import NotFoundError

from octarm.common.bus.letters import read_letter, redriven
from octarm.common.bus.publisher import Outgoing, Publisher
from octarm.common.bus.wire import read_headers
from octarm.models.errors import OctarmError, Unavailable
from octarm.models.events import DeadLetter
from octarm.models.ids import is_token
from octarm.models.subjects import DEAD_LETTER, DLQ

TIMEOUT_S: Final = 5.0
FETCH: Final = 500
FORGET_AFTER_S: Final = 30.0
AT_ONCE: Final = 128
NO_MESSAGE: Final = 10037
_API: Final = "$JS.API.STREAM.MSG"


@dataclass(frozen=True, slots=True)
class StoredLetter:
    """A dead letter in the box; `body` is empty when only the list was read."""

    seq: int
    buried_at: datetime
    letter: DeadLetter
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which letters: every given part must fit; `reason` is a part of the letter's, in any case."""

    origin: str = ""
    reason: str = ""
    tenant: str = ""
    since: datetime | None = None

    def fits(self, stored: StoredLetter) -> bool:
        """Whether this letter is wanted."""
        letter = stored.letter
        return (
            self.origin in ("", letter.origin)
            and self.tenant in ("", letter.tenant)
            and self.reason.casefold() in letter.reason.casefold()
            and (self.since is None or stored.buried_at >= self.since)
        )


@dataclass(frozen=True, slots=True)
class Handled:
    """What became of one letter; `gone` is no failure: somebody else was faster."""

    seq: int
    outcome: Literal["done", "gone", "failed"]
    reason: str = ""


class _Error(msgspec.Struct):
    err_code: int = 0
    description: str = ""


class _Message(msgspec.Struct):
    seq: int
    time: str
    hdrs: str = ""
    data: str = ""


class _Answer(msgspec.Struct):
    error: _Error | None = None
    message: _Message | None = None


_decode = msgspec.json.Decoder(_Answer).decode


@asynccontextmanager
async def _unavailable() -> AsyncGenerator[None, None]:
    try:
        yield
    except NotFoundError as error:
        raise Unavailable(f"{DLQ} is missing", "Run `octarm bus provision`.") from error
    except (NatsError, OSError, TimeoutError) as error:
        raise Unavailable(f"{DLQ} does not answer: {error!r}", retry_after_s=1) from error


class DeadLetterBox:
    """Reads the stream and acts on its letters; holds nothing, so any number may run at once."""

    def __init__(self, nc: NATS, publisher: Publisher) -> None:
        self._nc = nc
        self._publisher = publisher

    async def last_seq(self) -> int:
        """Give the sequence of the newest letter there ever was.

        Raises:
            Unavailable: the stream does not answer.
        """
        async with _unavailable():
            info = await self._nc.jetstream(timeout=TIMEOUT_S).stream_info(DLQ)
        return int(info.state.last_seq)

    async def find(self, wanted: Wanted, *, after: int, until: int) -> AsyncGenerator[StoredLetter]:
        """Yield the wanted letters between two sequences (after … until], oldest first.

        Payloads are not read. The caller closes the generator.

        Raises:
            Unavailable: the stream does not answer.
        """
        if until <= after:
            return
        async with _unavailable(), aclosing(self._heads(wanted, after)) as heads:
            async for message in heads:
                stored = _stored(message)
                if stored.seq > until:
                    return
                letter = read_letter(message.headers or {}, b"")
                if letter is None:
                    found = await self.get(stored.seq)
                    if found is None:
                        continue
                    letter = found.letter
                found = StoredLetter(stored.seq, stored.at, letter)
                if wanted.fits(found):
                    yield found

    async def _heads(self, wanted: Wanted, after: int) -> AsyncGenerator[Msg]:
        if wanted.origin and not is_token(wanted.origin):
            return  # It would stand in a subject; no consumer has such a name.
        js = self._nc.jetstream(timeout=TIMEOUT_S)
        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=after + 1,
            ack_policy=AckPolicy.NONE,
            headers_only=True,
            inactive_threshold=FORGET_AFTER_S,
            mem_storage=True,
            num_replicas=1,
        )
        subject = DEAD_LETTER.format(origin=wanted.origin or "*")
        consumer = await js.pull_subscribe(subject, stream=DLQ, config=config)
        try:
            left = (await consumer.consumer_info()).num_pending or 0
            while left:
                for message in await consumer.fetch(min(left, FETCH), TIMEOUT_S):
                    left = message.metadata.num_pending
                    yield message
        finally:
            with suppress(NatsError, OSError, TimeoutError):
                await consumer.unsubscribe()
                # The client named it.
                await js.delete_consumer(DLQ, config.name or "")

    async def get(self, seq: int) -> StoredLetter | None:
        """Give one letter with its body, None when it is not (any more) there.

        Raises:
            Unavailable: the stream does not answer.
        """
        answer = await self._ask("GET", {"seq": seq})
        if answer.message is None:
            return None
        message = answer.message
        headers = read_headers(base64.b64decode(message.hdrs)) if message.hdrs else {}
        body = base64.b64decode(message.data)
        letter = read_letter(headers, body)
        at = datetime.fromisoformat(message.time)
        return None if letter is None else StoredLetter(message.seq, at, letter, body)

    async def redrive(self, seqs: Sequence[int]) -> list[Handled]:
        """Publish letters anew where they came from, then take each out of the box.

        In this order: a crash in between leaves a letter whose second redriving has the same
        Msg-Id, and what it causes is known by what it is, not by how it came.
        """
        handled: list[Handled] = []
        for some in _rounds(seqs):
            stored = await asyncio.gather(*(self._found(seq) for seq in some))
            handled += [one for one in stored if isinstance(one, Handled)]
            handled += await self._send_back([one for one in stored if isinstance(one, _Ready)])
        return handled

    async def drop(self, seqs: Sequence[int]) -> list[Handled]:
        """Throw letters away for good."""
        handled: list[Handled] = []
        for some in _rounds(seqs):
            handled += await asyncio.gather(*(self._take_out(seq) for seq in some))
        return handled

    async def _found(self, seq: int) -> "_Ready | Handled":
        try:
            stored = await self.get(seq)
        except OctarmError as error:
            return _stays(seq, error.message)
        if stored is None:
            return Handled(seq, "gone")
        message = redriven(stored.letter, stored.body)
        return _Ready(seq, message) if isinstance(message, Outgoing) else _stays(seq, message)

    async def _send_back(self, ready: list["_Ready"]) -> list[Handled]:
        answers = await self._publisher.publish_many([one.message for one in ready])
        sent: list[int] = []
        handled: list[Handled] = []
        for one, answer in zip(ready, answers, strict=True):
            if isinstance(answer, OctarmError):
                handled.append(_stays(one.seq, answer.message))
            else:
                sent.append(one.seq)
        return handled + await asyncio.gather(*(self._take_out(seq) for seq in sent))

    async def _take_out(self, seq: int) -> Handled:
        try:
            answer = await self._ask("DELETE", {"seq": seq, "no_erase": True})
        except OctarmError as error:
            return _stays(seq, error.message)
        return Handled(seq, "gone" if answer.error is not None else "done")

    async def _ask(self, verb: str, what: dict[str, Any]) -> _Answer:
        async with _unavailable():
            reply = await self._nc.request(
                f"{_API}.{verb}.{DLQ}", msgspec.json.encode(what), timeout=TIMEOUT_S
            )
            answer = _decode(reply.data)
        if answer.error is not None and answer.error.err_code not in (NO_MESSAGE, 10043, 10057):
            raise Unavailable(f"{DLQ}: {answer.error.description}", retry_after_s=1)
        return answer


@dataclass(frozen=True, slots=True)
class _Head:
    seq: int
    at: datetime


def _stored(message: Msg) -> _Head:
    metadata = message.metadata
    return _Head(metadata.sequence.stream, metadata.timestamp.astimezone(UTC))


@dataclass(frozen=True, slots=True)
class _Ready:
    seq: int
    message: Outgoing


def _stays(seq: int, reason: str) -> Handled:
    return Handled(seq, "failed", reason)


def _rounds(seqs: Sequence[int]) -> Iterator[list[int]]:
    """Each sequence once, so many at a time that their payloads fit into memory."""
    once = list(dict.fromkeys(seqs))
    for start in range(0, len(once), AT_ONCE):
        yield once[start : start + AT_ONCE]
