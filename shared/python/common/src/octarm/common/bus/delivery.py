"""One delivery of a JetStream message, and the ways it can end."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from nats.aio.client import Client as NATS
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from octarm.common.bus.wire import publication, write_commands


@dataclass(frozen=True, slots=True)
class Ack:
    """Done; never deliver it again."""


@dataclass(frozen=True, slots=True)
class Held:
    """The handler settles it itself, later or never."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Deliver it again, not before `after_s` seconds."""

    after_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Dead:
    """It can never be handled: put it among the dead letters."""

    reason: str


Outcome = Ack | Held | Retry | Dead
ACK: Final = Ack()
HELD: Final = Held()
MAX_DELIVERIES: Final = 6
FIRST_PAUSE_S: Final = 0.5
ACKS_LINGER_S: Final = 0.02

_ACK: Final = b"+ACK"
_TERM: Final = b"+TERM"


class Delivery:
    """A message as one consumer got it; settling it again does nothing."""

    __slots__ = ("_again", "_headers", "_msg", "_send", "_settled", "data", "subject")

    def __init__(
        self,
        msg: Msg,
        send: Callable[[str, bytes], None],
        again: Callable[["Delivery"], None] | None = None,
    ) -> None:
        self._msg = msg
        self._send = send
        self._again = again
        self._settled = False
        self.data: bytes = msg.data
        self.subject: str = msg.subject

    @property
    def settled(self) -> bool:
        """Whether the server has been told what becomes of it."""
        return self._settled

    @property
    def headers(self) -> Mapping[str, str]:
        """The message's headers."""
        return self._msg.headers or {}

    @property
    def _tokens(self) -> list[str]:
        # $JS.ACK.<stream>.<consumer>.<deliveries>.<stream seq>.<consumer seq>.<ns>.<pending>,
        # with <domain>.<account hash> after ACK in the long form.
        tokens = self._msg.reply.split(".")
        return tokens[2:9] if len(tokens) == 9 else tokens[4:11]

    @property
    def deliveries(self) -> int:
        """How often it has been delivered, this time included."""
        return int(self._tokens[2])

    @property
    def stream_seq(self) -> int:
        """Its sequence in the stream."""
        return int(self._tokens[3])

    @property
    def published_at(self) -> datetime:
        """When the stream took it, by the server's clock."""
        return datetime.fromtimestamp(int(self._tokens[5]) / 1e9, tz=UTC)

    def _settle(self, body: bytes) -> None:
        if not self._settled:
            self._settled = True
            self._send(self._msg.reply, body)

    def ack(self) -> None:
        """Say that it is done; fire and forget."""
        self._settle(_ACK)

    def retry(self, after_s: float = 0.0) -> None:
        """Ask for it again, not before `after_s` seconds."""
        self._settle(b'-NAK {"delay": %d}' % int(after_s * 1e9) if after_s > 0 else b"-NAK")

    def again(self) -> None:
        """Have a held delivery handled once more, as if it had just come."""
        if self._again is not None and not self._settled:
            self._again(self)

    def term(self) -> None:
        """Say that it must never come again."""
        self._settle(_TERM)


def after_bug(delivery: Delivery) -> Outcome:
    """Say what becomes of a message at which its handler failed: later again, six times."""
    if delivery.deliveries >= MAX_DELIVERIES:
        return Dead("the handler failed six times")
    return Retry(min(60.0, FIRST_PAUSE_S * 4 ** (delivery.deliveries - 1)))


class Settlements:
    """Tells the server what became of deliveries, several at once.

    An acknowledgement waits until another message has come, for `linger_s` at most: one that
    empties a stream makes the server remove a file and create another, which takes longer than
    all else that it does for a message.
    """

    def __init__(self, nc: NATS, *, linger_s: float = 0.0) -> None:
        self._nc = nc
        self._linger_s = linger_s
        self._replies: list[tuple[str, bytes]] = []
        self._lingering: asyncio.TimerHandle | None = None
        self._sending: asyncio.Task[None] | None = None

    def put(self, reply: str, body: bytes) -> None:
        """Tell it soon."""
        self._replies.append((reply, body))
        if not self._linger_s or body != _ACK:
            self._send()
        elif self._lingering is None:
            later = asyncio.get_running_loop().call_later
            self._lingering = later(self._linger_s, self._send)

    def overtaken(self) -> None:
        """Let go what lingers: another message has come."""
        if self._lingering is not None:
            self._send()

    async def flush(self) -> None:
        """Tell all; returns once it is written."""
        self._send()
        if self._sending is not None:
            await self._sending

    def _send(self) -> None:
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send_replies())

    async def _send_replies(self) -> None:
        while self._replies:
            replies, self._replies = self._replies, []
            said = (publication(to, body) for to, body in replies)
            # Unsettled is safe: it is delivered again and every handler is idempotent.
            with suppress(NatsError, OSError):
                await write_commands(self._nc, b"".join(said))
