"""Publishing to JetStream: always with a Msg-Id, every acknowledgement bounded in time."""

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec
from nats.aio.client import Client as NATS
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from octarm.common.bus.window import Window
from octarm.common.bus.wire import is_subject, listen, write_commands
from octarm.common.failpoints import failpoint
from octarm.common.telemetry.tracing import is_sampled
from octarm.models.errors import (
    Backpressure,
    Conflict,
    InvalidRequest,
    OctarmError,
    PayloadTooLarge,
    Unavailable,
)

AGAIN_AFTER_S: Final = 2.0
STREAM_FULL: Final = frozenset({10077, 10047, 10023})
WRONG_LAST_SEQUENCE: Final = 10071
FENCE_IN_USE: Final = 10164
COPY_ON_ITS_WAY: Final = 10158
TURNS, TURN_S = 20, 0.01


class Fence(msgspec.Struct, frozen=True, gc=False):
    """Store a message only while the last one on `subject` in its stream has the sequence `seq`."""

    subject: str
    seq: int


class Outgoing(msgspec.Struct, frozen=True, gc=False):
    """A message for a stream; the same `msg_id` within the window is stored once.

    `head` holds further headers as `encode_headers` writes them. A `fence` that has fallen makes
    the stream refuse the message, also as a copy of one that it has.
    """

    subject: str
    payload: bytes
    msg_id: str
    head: bytes = b""
    fence: Fence | None = None


class PubAck(msgspec.Struct, frozen=True, gc=False):
    """The stream has it."""

    stream: str
    seq: int
    duplicate: bool


Answer = PubAck | OctarmError


class Unacknowledged(Unavailable):
    """Nobody said what became of a message: it may land all the same."""


class Fenced(Conflict):
    """The message's fence has fallen: another leads now."""

    default_code = "STALE_LEADER"


class FenceInUse(Unavailable):
    """A replicated stream is storing another message behind this fence; this one it has not."""


class _Error(msgspec.Struct):
    err_code: int = 0
    description: str = ""


class _Ack(msgspec.Struct):
    stream: str = ""
    seq: int = 0
    duplicate: bool = False
    error: _Error | None = None


_decode_ack = msgspec.json.Decoder(_Ack).decode


def _of_a_copy(answer: Answer) -> Answer:
    """Give what a second copy's answer says of the message: a refusal leaves the first in doubt."""
    if isinstance(answer, OctarmError) and not isinstance(answer, Fenced):
        return Unacknowledged(answer.message, retry_after_s=1)
    return answer


def _refusal(message: Outgoing, max_payload: int) -> OctarmError | None:
    if len(message.payload) > max_payload:
        return PayloadTooLarge(f"{len(message.payload)} bytes do not fit the bus")
    if not is_subject(message.subject) or not message.msg_id.isprintable():
        return InvalidRequest("a message's subject and id must be plain words")
    return None


def trace_head(traceparent: str) -> bytes:
    """Write the header that carries a sampled trace to the next hop; none otherwise."""
    return b"traceparent: %b\r\n" % traceparent.encode() if is_sampled(traceparent) else b""


def trace_in(head: bytes) -> bytes:
    """Give the traceparent that `trace_head` wrote; nothing when it wrote none."""
    return head.partition(b"traceparent: ")[2].partition(b"\r\n")[0]


def _fence_head(fence: Fence) -> bytes:
    return (
        b"Nats-Expected-Last-Subject-Sequence: %d\r\n"
        b"Nats-Expected-Last-Subject-Sequence-Subject: %b\r\n"
    ) % (fence.seq, fence.subject.encode())


def _answer_of(data: bytes) -> Answer:
    if not data:
        return Unavailable("no stream takes this subject: run `octarm bus provision`")
    ack = _decode_ack(data)
    if ack.error is None:
        return PubAck(ack.stream, ack.seq, ack.duplicate)
    if ack.error.err_code in STREAM_FULL:
        return Backpressure(ack.error.description, code="QUEUE_FULL", retry_after_s=1)
    if ack.error.err_code == WRONG_LAST_SEQUENCE:
        return Fenced(ack.error.description)
    if ack.error.err_code == FENCE_IN_USE:
        return FenceInUse(ack.error.description, retry_after_s=1)
    if ack.error.err_code == COPY_ON_ITS_WAY:
        return Unacknowledged(ack.error.description, retry_after_s=1)
    return Unavailable(ack.error.description, retry_after_s=1)


def _nobody_answered(answers: Sequence[Answer]) -> bool:
    return all(isinstance(answer, Unavailable) for answer in answers)


class Publishes(Protocol):
    """The part of `Publisher` that use cases need; `RecordingPublisher` has it too."""

    async def publish_many(self, messages: Sequence[Outgoing]) -> list[Answer]:
        """Publish pipelined; answers come in the same order, errors are returned."""
        ...


class Publisher:
    """Publishes to streams over one connection; safe for concurrent use.

    What is not acknowledged in two seconds is sent once more, unless the connection was lost.
    An acknowledgement that does not come in `timeout_s` seconds becomes `Unacknowledged`; the
    message may land all the same, which its Msg-Id makes harmless. Any other error is definite.
    """

    def __init__(self, nc: NATS, *, timeout_s: float = 5.0, window: int = 4096) -> None:
        self._nc = nc
        self._timeout_s = timeout_s
        self._permits = asyncio.Semaphore(max(1, window // 512))
        self._in_turn = False
        self._inbox = nc.new_inbox()
        self._next = 0
        self._waiting: dict[str, tuple[Window[Answer], int]] = {}
        self._subscription: Subscription | None = None
        self._subscribing = asyncio.Lock()

    @property
    def max_payload(self) -> int:
        """Bytes that the server takes as one message, its headers included."""
        return self._nc.max_payload

    async def publish(self, message: Outgoing) -> PubAck:
        """Publish one message and await its acknowledgement.

        Raises:
            Unavailable: no acknowledgement in time; it may still land.
            Backpressure: the stream is full.
        """
        (answer,) = await self.publish_many([message])
        if isinstance(answer, OctarmError):
            raise answer
        return answer

    async def publish_many(self, messages: Sequence[Outgoing]) -> list[Answer]:
        """Publish pipelined; answers come in the same order, errors are returned."""
        if not messages:
            return []
        answers: list[Answer] = []
        for start in range(0, len(messages), 512):
            async with self._permits:
                window = await self._publish_some(messages[start : start + 512])
            answers += window
            if _nobody_answered(window):
                # Nor would the next windows be answered; each would take its time to learn it.
                return answers + [window[-1]] * (len(messages) - len(answers))
        return answers

    async def _publish_some(self, messages: Sequence[Outgoing]) -> list[Answer]:
        """Publish up to 512; behind a fence in turn, once a stream has shown that it must be so."""
        if self._in_turn and messages[0].fence is not None:
            answers: list[Answer] = [FenceInUse("not sent", retry_after_s=1)] * len(messages)
        else:
            answers = await self._publish_window(messages)
        for index, answer in enumerate(answers):
            if isinstance(answer, FenceInUse):
                self._in_turn = True
                answers[index] = await self._publish_in_turn(messages[index])
                if isinstance(answers[index], Unacknowledged):
                    break
        return answers

    async def _publish_in_turn(self, message: Outgoing) -> Answer:
        (answer,) = await self._publish_window([message])
        for _ in range(TURNS):
            if not isinstance(answer, FenceInUse):
                break
            await asyncio.sleep(TURN_S)
            (answer,) = await self._publish_window([message])
        return answer

    async def _publish_window(self, messages: Sequence[Outgoing]) -> list[Answer]:
        try:
            if self._subscription is None:
                await self._ensure_subscribed()
        except (NatsError, OSError) as error:
            return [Unacknowledged(f"NATS: {error}", retry_after_s=1)] * len(messages)
        window, reconnects = Window[Answer](len(messages)), self._nc.stats["reconnects"]
        self._next += len(messages)
        replies = [f"{self._inbox}.{self._next - index}" for index in range(len(messages))]
        for index, reply in enumerate(replies):
            self._waiting[reply] = (window, index)
        try:
            await self._send(messages, replies, window)
            if not await window.answered(min(AGAIN_AFTER_S, self._timeout_s)):
                # They may have died with a leader; the next one knows the Msg-Ids of what it has.
                if self._nc.is_connected and self._nc.stats["reconnects"] == reconnects:
                    window.sent_again = True
                    await self._send(messages, replies, window)
                await window.answered(self._timeout_s - AGAIN_AFTER_S)
        finally:
            for reply in replies:
                self._waiting.pop(reply, None)
        late = Unacknowledged("NATS did not acknowledge in time", retry_after_s=1)
        return [late if answer is None else answer for answer in window.answers]

    async def _send(
        self, messages: Sequence[Outgoing], replies: list[str], window: Window[Answer]
    ) -> None:
        """Write the commands of all that have no answer to the connection's buffer at once."""
        commands: list[bytes] = []
        for index, (message, reply) in enumerate(zip(messages, replies, strict=True)):
            if window.answers[index] is not None:
                continue
            payload = message.payload
            refused = _refusal(message, self._nc.max_payload)
            if refused is not None:
                window.answer(index, refused)
                continue
            head = b"NATS/1.0\r\nNats-Msg-Id: %b\r\n%b%b\r\n" % (
                message.msg_id.encode(),
                message.head,
                _fence_head(message.fence) if message.fence else b"",
            )
            size = len(head)
            line = f"HPUB {message.subject} {reply} {size} {size + len(payload)}\r\n"
            commands.append(b"%b%b%b\r\n" % (line.encode(), head, payload))
        try:
            await write_commands(self._nc, b"".join(commands))
        except (NatsError, OSError) as error:
            for index in range(len(messages)):
                window.answer(index, Unacknowledged(f"NATS: {error}", retry_after_s=1))

    async def _ensure_subscribed(self) -> None:
        async with self._subscribing:
            if self._subscription is None:
                self._subscription = await listen(self._nc, f"{self._inbox}.*", self._acknowledged)

    def _acknowledged(self, msg: Msg) -> None:
        failpoint("puback_before_use")
        waiting = self._waiting.pop(msg.subject, None)
        if waiting is None:
            return
        window, index = waiting
        answer = _answer_of(msg.data)
        window.answer(index, _of_a_copy(answer) if window.sent_again else answer)

    async def close(self) -> None:
        """Stop listening for acknowledgements; the connection stays its owner's."""
        if self._subscription is not None and not self._nc.is_closed:
            await self._subscription.unsubscribe()
            self._subscription = None
