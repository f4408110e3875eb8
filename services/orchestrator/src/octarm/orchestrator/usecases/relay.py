"""The relay: publishes what was committed, then forgets it.

A fresh entry goes out at once from memory; entries that a dead process left behind are found
by age. Never delete before the acknowledgement, never page by number: transactions commit out
of order.
"""

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

from octarm.common.bus.publisher import PubAck, Publishes
from octarm.common.failpoints import failpoint
from octarm.common.telemetry.logs import get_logger
from octarm.models.errors import OctarmError
from octarm.orchestrator.domain.changes import Entry

STALE_AFTER_S: Final = 5.0
MAX_ENTRIES: Final = 50
MAX_BACKLOG: Final = 10_000

log = get_logger()


class Outbox(Protocol):
    """The rows that wait for publication."""

    async def delete(self, seqs: Sequence[int]) -> None:
        """Forget rows."""
        ...

    async def older_than(self, seconds: float) -> list[Entry]:
        """Give rows that were forgotten about."""
        ...


class Relay:
    """Publishes entries in the order in which they were handed in."""

    def __init__(self, publisher: Publishes, outbox: Outbox) -> None:
        self._publisher = publisher
        self._outbox = outbox
        self._waiting: list[Entry] = []
        self._under_way: set[int] = set()
        self._published: list[int] = []
        self._arrived = asyncio.Event()

    def hand_in(self, entry: Entry | None) -> None:
        """Publish soon. Past the backlog's bound the entry is left to `sweep`."""
        if entry is None or len(self._waiting) >= MAX_BACKLOG:
            return
        self._waiting.append(entry)
        self._arrived.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Publish until `stop` is set and nothing is left to publish."""
        stopped = asyncio.create_task(stop.wait())
        stopped.add_done_callback(lambda _: self._arrived.set())
        deleting = asyncio.create_task(self._delete_published())
        try:
            while self._waiting or not stop.is_set():
                if not self._waiting:
                    self._arrived.clear()
                    await self._arrived.wait()
                batch, self._waiting = self._waiting[:MAX_ENTRIES], self._waiting[MAX_ENTRIES:]
                await self._publish(batch)
        finally:
            stopped.cancel()
            deleting.cancel()
            await asyncio.gather(deleting, return_exceptions=True)
            await self._delete_now()

    async def sweep(self) -> int:
        """Publish entries that a relay should have published long ago; gives their number."""
        entries = [
            entry
            for entry in await self._outbox.older_than(STALE_AFTER_S)
            if entry.seq not in self._under_way
        ]
        if entries:
            log.warning("outbox_swept", entries=len(entries))
            await self._publish(entries)
            await self._delete_now()
        return len(entries)

    async def _publish(self, entries: list[Entry]) -> None:
        seqs = [entry.seq for entry in entries]
        self._under_way.update(seqs)
        try:
            messages = [message for entry in entries for message in entry.messages]
            failpoint("relay_before_publish")
            answers = await self._publisher.publish_many(messages)
            position = 0
            for entry in entries:
                own = answers[position : position + len(entry.messages)]
                position += len(entry.messages)
                failed = _to_repeat(entry, own)
                if failed is None:
                    self._published.append(entry.seq)
                else:
                    log.warning("outbox_entry_not_published", error=failed.message)
        finally:
            self._under_way.difference_update(seqs)

    async def _delete_published(self) -> None:
        while True:
            await asyncio.sleep(0.2)
            await self._delete_now()

    async def _delete_now(self) -> None:
        if not self._published:
            return
        seqs, self._published = self._published, []
        failpoint("relay_before_delete")
        try:
            await self._outbox.delete(seqs)
        except OctarmError as error:
            # They are published again by `sweep`, which their Msg-Ids make harmless.
            log.warning("outbox_rows_left", error=error.message)


def _to_repeat(entry: Entry, answers: Sequence[PubAck | OctarmError]) -> OctarmError | None:
    """Give the reason to publish the entry again, if there is one.

    What the bus will never take is said aloud and let go: it would keep its row for ever, and
    a hundred such rows would keep those of dead processes from being found.
    """
    failed = None
    for message, answer in zip(entry.messages, answers, strict=True):
        if not isinstance(answer, OctarmError):
            continue
        if answer.retryable:
            failed = answer
        else:
            log.error("outbox_message_refused", subject=message.subject, error=answer.message)
    return failed
