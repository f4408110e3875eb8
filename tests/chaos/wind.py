"""A load that blows all the time, and what came of it."""

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from octarm.models.errors import OctarmError
from tests.chaos.load import Load

BURST_S: Final = 0.25
MAX_BURSTS: Final = 400


@dataclass(slots=True)
class Fault:
    """Something that was done to the system; `healed` is when it was undone (monotonic)."""

    what: str
    at: float
    healed: float


@dataclass(slots=True)
class Wind:
    """Submits `rate` tasks a second; bursts that are not answered ask again meanwhile."""

    load: Load
    rate: int
    context: dict[str, object]
    """What each task is told, beside its number."""
    began: float = 0.0
    over: float = 0.0
    handed_in: int = 0
    refused: int = 0
    faults: list[Fault] = field(default_factory=list)
    figures: dict[str, str] = field(default_factory=dict)
    """What the scenario found beside what is counted for all."""
    breaks: list[str] = field(default_factory=list)
    _bursts: set[asyncio.Task[None]] = field(default_factory=set)

    @asynccontextmanager
    async def fault(self, what: str) -> AsyncGenerator[None, None]:
        """Note a fault around what does and undoes it, and tell whoever watches."""
        fault = Fault(what, time.monotonic(), 0.0)
        self.faults.append(fault)
        self.load.history.note("fault", kind=what)
        print(f"  {fault.at - self.began:6.1f} s  {what}", flush=True)
        try:
            yield
        finally:
            fault.healed = time.monotonic()

    def promise(self, what: str, figure: str, kept: bool) -> None:
        """Note a figure of the scenario's own, and whether it is as promised."""
        self.figures[what] = figure
        if not kept:
            self.breaks.append(f"{what}: {figure}")

    async def blow(self, stop: asyncio.Event) -> None:
        """Submit until `stop`, then wait for the answers that are still to come."""
        self.began = time.monotonic()
        try:
            await self._hand_in(stop)
            self.over = time.monotonic()
            while self._bursts:
                await asyncio.wait(self._bursts)
        finally:
            for burst in self._bursts:
                burst.cancel()

    async def _hand_in(self, stop: asyncio.Event) -> None:
        bursts = 0
        while not stop.is_set():
            if len(self._bursts) < MAX_BURSTS:
                burst = asyncio.create_task(self._burst(max(1, round(self.rate * BURST_S))))
                self._bursts.add(burst)
                burst.add_done_callback(self._bursts.discard)
            bursts += 1
            due = self.began + bursts * BURST_S
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _burst(self, count: int) -> None:
        self.handed_in += count
        try:
            await self.load.submit(count, context=dict(self.context))
        except OctarmError:
            self.refused += count

    @property
    def recovery_s(self) -> float:
        """After the worst fault: from its end until a task that was handed in later had ended."""
        worst = 0.0
        for fault in self.faults:
            ends = [
                self.load.ended[task_id]
                for task_id, began in self.load.began.items()
                if began >= fault.healed and task_id in self.load.ended
            ]
            if ends:
                worst = max(worst, min(ends) - fault.healed)
        return worst

    @property
    def silence_s(self) -> float:
        """The longest time without any end while the load was on."""
        ends = sorted(end for end in self.load.ended.values() if end <= self.over)
        moments = [self.began, *ends, self.over]
        return max(later - earlier for earlier, later in itertools.pairwise(moments))

    @property
    def goodput(self) -> float:
        """Which share of what was handed in had ended when the load stopped."""
        ended = sum(end <= self.over for end in self.load.ended.values())
        return ended / max(1, self.handed_in)
