"""Started and progress reports, gathered so that one message carries many."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Protocol

import msgspec

from octarm.common.bus.publisher import Outgoing
from octarm.common.failpoints import failpoint
from octarm.models import hot
from octarm.models.commands import MAX_BATCH
from octarm.models.subjects import ATTEMPTS_UPDATED
from octarm.sdk.chunks import Chunks
from octarm.sdk.recent import Key
from octarm.sdk.spending import Call
from octarm.sdk.spends import Spends

GATHER_S: Final = 0.05
PROGRESS_EVERY_S: Final = 0.5

_encode = msgspec.json.Encoder().encode


class SendsHints(Protocol):
    """Where gathered reports go."""

    def waiting(self) -> int:
        """Count what has not been acknowledged."""
        ...

    def put_report(self, message: Outgoing) -> None:
        """Publish what is kept until it is acknowledged."""
        ...

    def put_hint(self, message: Outgoing) -> None:
        """Publish something that may be lost when the bus stays away for long."""
        ...


def _nobody(retry_after_s: float) -> None:
    """Nobody wants to know."""


class _Reported(msgspec.Struct, gc=False):
    started_at: datetime
    told: bool = False
    progress: hot.AttemptUpdate | None = None
    progressed_at: float = -PROGRESS_EVERY_S


class Updates:
    """Reports what attempts have come to: at most two progress reports a second for each.

    Attempts that end within `gather_s` of their start are never reported: their result says it
    all, and the ledger writes them once. Others are reported before twice that time is over.
    Chunks are passed to `chunks`.
    """

    def __init__(
        self,
        outbox: SendsHints,
        chunks: Chunks,
        *,
        arm_id: str,
        instance_id: str,
        throttled: Callable[[float], None] = _nobody,
        gather_s: float = GATHER_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._outbox = outbox
        self._chunks = chunks
        self._spends = Spends(outbox, arm_id=arm_id, instance_id=instance_id)
        self._throttled = throttled
        self._arm_id = arm_id
        self._instance_id = instance_id
        self._subject = ATTEMPTS_UPDATED.at(arm_id=arm_id)
        self._gather_s = gather_s
        self._monotonic = monotonic
        self._attempts: dict[Key, _Reported] = {}
        self._fresh: list[Key] = []
        self._ripe: list[Key] = []
        self._progressed: set[Key] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._number = 0

    def started(self, key: Key, at: datetime) -> None:
        """Report soon that an attempt has started."""
        self._attempts[key] = _Reported(at)
        self._fresh.append(key)
        self._arm_timer()

    def progress(self, task_id: str, attempt: int, fraction: float, message: str) -> None:
        """Report soon how far an attempt is; the last report within half a second counts."""
        key = (task_id, attempt)
        reported = self._attempts.get(key)
        if reported is None:
            return
        reported.progress = hot.AttemptUpdate(
            task_id, attempt, "progress", datetime.now(UTC), fraction, message
        )
        self._progressed.add(key)
        self._arm_timer()

    def chunk(self, task_id: str, attempt: int, seq: int, text: str) -> None:
        """Send a piece of output; nobody keeps it."""
        self._chunks.put(task_id, attempt, seq, text)

    def spent(self, task_id: str, attempt: int, call: Call) -> None:
        """Report soon what a call has cost, also of an attempt that has been settled."""
        self._spends.put(task_id, attempt, call)

    def throttled(self, retry_after_s: float) -> None:
        """Report with the next heartbeat, which comes soon, that the provider wants nothing."""
        self._throttled(retry_after_s)

    def flush(self) -> None:
        """Hand over at once what has been spent."""
        self._spends.flush()

    def ended(self, key: Key) -> None:
        """Report nothing more of this attempt."""
        self._attempts.pop(key, None)

    def close(self) -> None:
        """Stop the timers."""
        self._spends.flush()
        if self._timer is not None:
            self._timer.cancel()

    def report(self) -> None:
        """Report what is due; the timer calls it."""
        self._timer = None
        updates = [*self._take_started(), *self._take_progress()]
        failpoint("arm_running")
        for start in range(0, len(updates), MAX_BATCH):
            self._publish(updates[start : start + MAX_BATCH])
        if self._progressed or self._ripe:
            self._arm_timer()

    def _arm_timer(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._gather_s, self.report)

    def _take_started(self) -> list[hot.AttemptUpdate]:
        """Report what has been running since the last turn; what is younger may end by the next."""
        ripe, self._ripe, self._fresh = self._ripe, self._fresh, []
        updates: list[hot.AttemptUpdate] = []
        for key in ripe:
            if reported := self._attempts.get(key):
                updates += _start_of(key, reported)
        return updates

    def _take_progress(self) -> list[hot.AttemptUpdate]:
        now = self._monotonic()
        updates: list[hot.AttemptUpdate] = []
        for key in list(self._progressed):
            reported = self._attempts.get(key)
            if reported is None or reported.progress is None:
                self._progressed.discard(key)
            elif now - reported.progressed_at >= PROGRESS_EVERY_S:
                self._progressed.discard(key)
                reported.progressed_at = now
                updates += [*_start_of(key, reported), reported.progress]
                reported.progress = None
        return updates

    def _publish(self, updates: list[hot.AttemptUpdate]) -> None:
        self._number += 1
        message = hot.AttemptsUpdated(self._arm_id, self._instance_id, updates)
        self._outbox.put_hint(
            Outgoing(self._subject, _encode(message), f"u:{self._instance_id}:{self._number}")
        )


def _start_of(key: Key, reported: _Reported) -> list[hot.AttemptUpdate]:
    """Give the report of an attempt's start, once."""
    if reported.told:
        return []
    reported.told = True
    return [hot.AttemptUpdate(*key, "started", reported.started_at)]
