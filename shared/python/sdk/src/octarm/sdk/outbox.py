"""Publication in windows, until the stream has acknowledged."""

import asyncio
from collections.abc import Sequence
from typing import Final

from octarm.common.bus.publisher import Outgoing, Publishes
from octarm.common.telemetry import get_logger
from octarm.models.errors import OctarmError
from octarm.sdk.bundles import Bundle, bundles

WINDOW: Final = 512
FIRST_BACKOFF_S: Final = 0.1
# A stream whose leader died has another one within ten seconds; nobody should wait much longer.
MAX_BACKOFF_S: Final = 1.0
MAX_HINTS: Final = 1000

log = get_logger()


class Outbox:
    """Gathers messages while a window is on its way, then publishes them together.

    All arms on one connection share one, so that a window carries what all of them have.

    Messages are tried again, with growing pauses, until the stream has them; what it can never
    take (too large) is dropped, and the ledger's lease on that attempt runs out. Hints (started,
    progress) give way when more than 1,000 wait; results never do.
    """

    def __init__(self, publisher: Publishes, *, first_backoff_s: float = FIRST_BACKOFF_S) -> None:
        self._publisher = publisher
        self._first_backoff_s = first_backoff_s
        self._backoff_s = 0.0
        self._results: list[Outgoing] = []
        self._hints: list[Outgoing] = []
        self._sending: Sequence[Outgoing] = ()
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()

    def put(self, message: Outgoing) -> None:
        """Publish a result; it is kept until it is acknowledged."""
        self._results.append(message)
        self._wake()

    def put_hint(self, message: Outgoing) -> None:
        """Publish something that may be lost when the bus stays away for long."""
        if len(self._hints) < MAX_HINTS:
            self._hints.append(message)
            self._wake()

    def put_report(self, message: Outgoing) -> None:
        """Publish what is kept until it is acknowledged, but after the results that wait."""
        self._hints.append(message)
        self._wake()

    def _wake(self) -> None:
        self._emptied.clear()
        self._filled.set()

    def waiting(self) -> int:
        """Count what has not been acknowledged."""
        return len(self._results) + len(self._hints) + len(self._sending)

    async def emptied(self) -> None:
        """Return once everything has been acknowledged."""
        await self._emptied.wait()

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            while self._results or self._hints:
                await self._send()
            self._emptied.set()

    async def _send(self) -> None:
        results = self._results[:WINDOW]
        hints = self._hints[: WINDOW - len(results)]
        del self._results[: len(results)]
        del self._hints[: len(hints)]
        self._sending = results + hints
        sent = [*bundles(results), *(Bundle(hint, (hint,)) for hint in hints)]
        answers = await self._publisher.publish_many([bundle.message for bundle in sent])
        refused = {
            message.msg_id: answer
            for bundle, answer in zip(sent, answers, strict=True)
            if isinstance(answer, OctarmError)
            for message in bundle.results
        }
        self._sending = ()
        for msg_id in [msg_id for msg_id, error in refused.items() if not error.retryable]:
            # It would keep everything behind it waiting, and never go out.
            log.error("never_published", msg_id=msg_id, error=refused.pop(msg_id).message)
        if not refused:
            self._backoff_s = 0.0
            return
        self._results[:0] = [m for m in results if m.msg_id in refused]
        self._hints[:0] = [m for m in hints if m.msg_id in refused]
        await self._pause(next(iter(refused.values())), len(refused))

    async def _pause(self, error: OctarmError, count: int) -> None:
        self._backoff_s = min(MAX_BACKOFF_S, max(self._first_backoff_s, self._backoff_s * 2))
        log.warning(
            "publish_refused", messages=count, error=error.message, again_in_s=self._backoff_s
        )
        await asyncio.sleep(self._backoff_s)
