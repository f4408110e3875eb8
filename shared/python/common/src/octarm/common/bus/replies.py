"""Requests whose answers are handed on where they are read.

`Client.request` makes a subscription's task wake for each answer, and waits for it in a task of its
own: two turns of the loop and a dozen objects, more than a hop of the bus costs.
"""

import asyncio
import itertools
from typing import Final

from nats.aio.client import Client as NATS
from nats.aio.msg import Msg
from nats.errors import (
    BadSubjectError,
    ConnectionDrainingError,
    MaxPayloadError,
    NoRespondersError,
)
from nats.errors import TimeoutError as Late

from octarm.common.bus.wire import is_subject, listen, write_commands

_NAME: Final = "_octarm_replies"


class Replies:
    """The inbox of a connection; `of` gives the one that it has."""

    def __init__(self, nc: NATS) -> None:
        self._nc = nc
        self._inbox = nc.new_inbox()
        self._numbers = itertools.count(1)
        self._waiting: dict[str, asyncio.Future[bytes]] = {}
        self._beginning = asyncio.Lock()
        self._listens = False

    @classmethod
    def of(cls, nc: NATS) -> "Replies":
        """Give the inbox of a connection; it lives as long as that."""
        found: Replies | None = getattr(nc, _NAME, None)
        if found is None:
            found = cls(nc)
            setattr(nc, _NAME, found)
        return found

    async def ask(self, subject: str, body: bytes, timeout_s: float) -> bytes:
        """Send a request and await the answer's bytes; raises what `Client.request` does."""
        if not is_subject(subject):
            raise BadSubjectError
        if self._nc.is_draining:
            raise ConnectionDrainingError
        if len(body) > self._nc.max_payload:
            raise MaxPayloadError
        if not self._listens:
            await self._listen()
        inbox = f"{self._inbox}.{next(self._numbers)}"
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bytes] = loop.create_future()
        self._waiting[inbox] = answer
        late = loop.call_later(timeout_s, _give_up, answer)
        try:
            command = b"PUB %b %b %d\r\n%b\r\n"
            where = subject.encode(), inbox.encode()
            await write_commands(self._nc, command % (*where, len(body), body))
            return await answer
        finally:
            late.cancel()
            del self._waiting[inbox]

    async def _listen(self) -> None:
        async with self._beginning:
            if not self._listens:
                await listen(self._nc, f"{self._inbox}.*", self._heard)
                self._listens = True

    def _heard(self, msg: Msg) -> None:
        answer = self._waiting.get(msg.subject)
        if answer is None or answer.done():
            return
        if not msg.data and msg.headers and msg.headers.get("Status") == "503":
            answer.set_exception(NoRespondersError())
        else:
            answer.set_result(msg.data)


def _give_up(answer: "asyncio.Future[bytes]") -> None:
    if not answer.done():
        answer.set_exception(Late())
