"""The relay: publishes what was committed, then forgets it.

A fresh entry goes out at once from memory; entries that a dead process left behind, or that a
full stream refused, are found by age. Never delete before the acknowledgement, never page by
number: transactions commit out of order.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Final, Protocol

from octarm.common.bus.publisher import PubAck, Publishes
from octarm.common.cancelling import end
from octarm.common.clock import Clock, SystemClock
from octarm.common.failpoints import failpoint
from octarm.common.telemetry.logs import get_logger
from octarm.ledger.domain.changes import Entry
from octarm.models.errors import Backpressure, OctarmError

STALE_AFTER_S: Final = 5.0
MAX_ENTRIES: Final = 50
MAX_BACKLOG: Final = 10_000
MAX_BACKLOG_BYTES: Final = 64 * 1024 * 1024
# One turn of `sweep` ends after this time, or after so many pages that brought nothing.
SWEEP_S: Final = 1.0
IDLE_PAGES: Final = 5
# What was refused is passed over for a while, so that what stands behind it is found; the
# oldest of it are tried each time, and when they go out all the others may.
PASSED_OVER_S: Final = 20.0
PROBES: Final = 10
FULL_S: Final = 1.0
RECONNECT_PAUSE_S: Final = 0.1
# Nobody waits for it; it must only be well before the rows look stale.
DELETE_EVERY_S: Final = 1.0

log = get_logger()


class Outbox(Protocol):
    """The rows that wait for publication."""

    async def delete(self, seqs: Sequence[int]) -> None:
        """Forget rows."""
        ...

    async def older_than(self, seconds: float, *, without: Collection[int]) -> list[Entry]:
        """Give up to a page of rows that were forgotten about, but not those named."""
        ...


class Relay:
    """Publishes entries in the order in which they were handed in.

    What it keeps in memory is bounded; the rest stays in the outbox until `sweep` finds it.
    `connected` tells whether publishing makes sense at all.
    """

    def __init__(
        self,
        publisher: Publishes,
        outbox: Outbox,
        *,
        clock: Clock | None = None,
        connected: Callable[[], bool] = lambda: True,
    ) -> None:
        self._publisher = publisher
        self._outbox = outbox
        self._clock = clock or SystemClock()
        self._connected = connected
        self._waiting: deque[tuple[Entry, int]] = deque()
        self._bytes = 0
        self._under_way: set[int] = set()
        self._published: list[int] = []
        self._passed_over: dict[int, float] = {}
        self._full: dict[str, float] = {}
        self._arrived = asyncio.Event()
        self._died = False

    def healthy(self) -> bool:
        """Whether what publishes and forgets has not died; false once it did, by a bug."""
        return not self._died

    def hand_in(self, entry: Entry | None) -> None:
        """Publish soon. Past the backlog's bounds the entry is left to `sweep`."""
        if entry is None:
            return
        size = sum(len(message.payload) for message in entry.messages)
        if self._waiting and (
            len(self._waiting) >= MAX_BACKLOG or self._bytes + size > MAX_BACKLOG_BYTES
        ):
            return
        self._waiting.append((entry, size))
        self._bytes += size
        self._arrived.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Publish until `stop` is set and nothing is left to publish."""
        stopped = asyncio.create_task(stop.wait())
        stopped.add_done_callback(lambda _: self._arrived.set())
        deleting = asyncio.create_task(self._delete_published())
        deleting.add_done_callback(self._deleting_ended)
        finished = False
        try:
            while self._waiting or not stop.is_set():
                if not self._waiting:
                    self._arrived.clear()
                    await self._arrived.wait()
                if self._connected():
                    await self._publish(self._take())
                elif stop.is_set():
                    break
                else:
                    await asyncio.sleep(RECONNECT_PAUSE_S)
            finished = True
        finally:
            self._died |= not finished
            await end(stopped, deleting)
            await self._delete_now()

    def _take(self) -> list[Entry]:
        taken = [self._waiting.popleft() for _ in range(min(MAX_ENTRIES, len(self._waiting)))]
        self._bytes -= sum(size for _, size in taken)
        return [entry for entry, _ in taken]

    async def sweep(self) -> int:
        """Publish entries that a relay should have published long ago; gives their number."""
        until = self._clock.monotonic() + SWEEP_S
        total = idle = 0
        self._let_some_try_again()
        while self._connected() and idle < IDLE_PAGES and self._clock.monotonic() < until:
            skipped = self._under_way.union(self._passed_over)
            entries = await self._outbox.older_than(STALE_AFTER_S, without=skipped)
            if not entries:
                break
            published = await self._publish(entries)
            await self._delete_now()
            total += published
            if published:
                self._passed_over.clear()
            else:
                idle += 1
        if total:
            log.warning("outbox_swept", entries=total)
        return total

    def _let_some_try_again(self) -> None:
        now = self._clock.monotonic()
        oldest = sorted(self._passed_over)[:PROBES]
        over = [seq for seq, until in self._passed_over.items() if until <= now]
        for seq in {*oldest, *over}:
            del self._passed_over[seq]

    async def _publish(self, entries: list[Entry]) -> int:
        """Publish entries; gives how many the bus has taken whole."""
        seqs = [entry.seq for entry in entries]
        self._under_way.update(seqs)
        taken = 0
        try:
            entries = [entry for entry in entries if not self._is_known_to_fail(entry)]
            messages = [message for entry in entries for message in entry.messages]
            failpoint("relay_before_publish")
            answers = await self._publisher.publish_many(messages)
            position = 0
            for entry in entries:
                own = answers[position : position + len(entry.messages)]
                position += len(entry.messages)
                taken += self._settle(entry, own)
        finally:
            self._under_way.difference_update(seqs)
        return taken

    def _settle(self, entry: Entry, answers: Sequence[PubAck | OctarmError]) -> bool:
        """Forget an entry soon that the bus has taken whole, pass another over for a while."""
        failed = _to_repeat(entry, answers)
        if failed is None:
            self._published.append(entry.seq)
            return True
        now = self._clock.monotonic()
        self._passed_over[entry.seq] = now + PASSED_OVER_S
        for message, answer in zip(entry.messages, answers, strict=True):
            if isinstance(answer, Backpressure):
                self._full[_kind(message.subject)] = now + FULL_S
        log.warning("outbox_entry_not_published", error=failed.message)
        return False

    def _is_known_to_fail(self, entry: Entry) -> bool:
        """Pass an entry over that would go to a stream which is full."""
        if not self._full:
            return False
        now = self._clock.monotonic()
        self._full = {kind: until for kind, until in self._full.items() if until > now}
        if not any(_kind(message.subject) in self._full for message in entry.messages):
            return False
        self._passed_over[entry.seq] = now + PASSED_OVER_S
        return True

    def _deleting_ended(self, task: asyncio.Task[None]) -> None:
        self._died |= not task.cancelled()

    async def _delete_published(self) -> None:
        while True:
            await asyncio.sleep(DELETE_EVERY_S)
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


def _kind(subject: str) -> str:
    """Give the part of a subject that one stream takes."""
    return ".".join(subject.split(".", 5)[:5])


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
