"""A window of messages on their way, whose answers are awaited together."""

import asyncio
from typing import Generic, TypeVar

A = TypeVar("A")


class Window(Generic[A]):
    """So many messages; `answers` holds None for those that nobody has answered."""

    __slots__ = ("_done", "_missing", "answers", "sent_again")

    def __init__(self, size: int) -> None:
        self.answers: list[A | None] = [None] * size
        self.sent_again = False
        self._missing = size
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def answer(self, index: int, answer: A) -> None:
        """Take the answer to a message; the first one counts."""
        if self.answers[index] is None:
            self.answers[index] = answer
            self._missing -= 1
            if not self._missing and not self._done.done():
                self._done.set_result(None)

    async def answered(self, within_s: float) -> bool:
        """Wait until all are answered; false when some are not in time."""
        late = self._done.get_loop().call_later(within_s, self._give_up)
        try:
            await self._done
        finally:
            late.cancel()
        if self._missing:
            self._done = self._done.get_loop().create_future()
        return not self._missing

    def _give_up(self) -> None:
        if not self._done.done():
            self._done.set_result(None)
