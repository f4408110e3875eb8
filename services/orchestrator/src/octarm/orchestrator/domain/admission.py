"""Admission: refuse fresh tasks while too many wait; pure, and the same in every orchestrator.

What waits is sampled from the database; between two samples each process adds what it did
itself, so several processes pass the mark by what they accept in about a second at most.
"""

import math
import random
from collections.abc import Callable, Sequence
from typing import Final

from octarm.ledger.domain.changes import Moved
from octarm.ledger.domain.shedding import Sheds
from octarm.models.errors import Backpressure
from octarm.models.states import TaskState

# Admission opens again when this share of the mark has drained.
HYSTERESIS: Final = 0.05
# The weight of a new observation of the rate.
WEIGHT: Final = 0.3
LONGEST_S: Final = 60
UNKNOWN_S: Final = 10
JITTER: Final = 0.25


def _waits(state: TaskState) -> bool:
    return state is TaskState.QUEUED or state is TaskState.WAITING


class Level:
    """Something that fills and drains, with a high and a low mark."""

    def __init__(self, high: int) -> None:
        self.high = high
        self.low = high - max(1, int(high * HYSTERESIS))
        self.value = 0
        self.is_full = False
        self._rate: float | None = None
        self._sampled: tuple[int, float] | None = None
        self._added = 0

    def add(self, number: int) -> None:
        """Count what we added ourselves, or, negative, took away, since the last sample."""
        self.value += number
        self._added += max(0, number)
        self._judge()

    def sampled(self, value: int, at: float) -> None:
        """Take the value that was found at `at`, a monotonic time in seconds."""
        if self._sampled is not None and at > self._sampled[1]:
            last, last_at = self._sampled
            drained = max(0.0, (self._added + last - value) / (at - last_at))
            # While it is full nobody adds, so what drains is seen whole; before, the others'
            # additions hide a part of it.
            if self._rate is None:
                self._rate = drained
            elif self.is_full:
                self._rate += WEIGHT * (drained - self._rate)
        self._sampled, self._added = (value, at), 0
        self.value = value
        self._judge()

    def room_in_s(self) -> float:
        """Give the seconds until the low mark is reached at the rate that was observed."""
        if self._rate is None:
            return UNKNOWN_S
        above = self.value - self.low
        return above / self._rate if self._rate > 0 else LONGEST_S

    def _judge(self) -> None:
        if self.value >= self.high:
            self.is_full = True
        elif self.value <= self.low:
            self.is_full = False


class Gate:
    """Admits tasks or says when to come again.

    `max_open` bounds the tasks that wait or are queued, `max_outbox` the outbox rows that the
    bus has not taken.
    """

    def __init__(
        self,
        max_open: int = 2**31,
        max_outbox: int = 2**31,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.open = Level(max_open)
        self.outbox = Level(max_outbox)
        self.sheds = Sheds()
        self._chance = chance

    @property
    def is_closed(self) -> bool:
        """Whether fresh tasks are refused."""
        return self.open.is_full or self.outbox.is_full

    @property
    def takes_nothing(self) -> bool:
        """Whether what waits on INTAKE had better stay there."""
        return self.is_closed or self.sheds.all_new

    def shed(self, tenant: str, submission: bytes) -> Backpressure | None:
        """Say that operators have switched this off; None when they have not."""
        return self.sheds.refusal(tenant, submission, self._chance) if self.sheds else None

    def accepted(self, number: int) -> None:
        """Count tasks that we wrote."""
        self.open.add(number)

    def moved(self, changes: Sequence[Moved]) -> None:
        """Count tasks that we saw leave the queue, or come back to it."""
        before = sum(1 for m in changes if _waits(m.old))
        after = sum(1 for m in changes if _waits(m.new))
        self.open.add(after - before)

    def refusal(self) -> Backpressure | None:
        """Say why a fresh task is refused and when there will be room; None when it is not."""
        full = [level for level in (self.open, self.outbox) if level.is_full]
        if not full:
            return None
        seconds = max(level.room_in_s() for level in full) * (1 + JITTER * self._chance())
        why = (
            f"{self.open.value:,} tasks wait; no more than {self.open.high:,} may"
            if self.open.is_full
            else f"the bus is {self.outbox.value:,} messages behind"
        )
        return Backpressure(why, retry_after_s=min(LONGEST_S, max(1, math.ceil(seconds))))
