"""After the storm: the invariants checker over everything, and a line of figures for people."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg

from octarm.cli.stack.upfile import Urls
from octarm.verify.check import Sources, verify
from octarm.verify.report import Report
from tests.chaos.diary import Diary

QUIET_WITHIN_S: Final = 60.0
_OF_THE_HISTORY: Final = ("I2", "I9")
_TASKS: Final = "select id, state, attempt from ledger.task where id = any(%s)"


@dataclass(slots=True)
class Audit:
    """What the checker says, and what became of the accepted tasks."""

    report: Report
    states: Counter[str]
    lost: int
    attempts: float
    """Attempts a task, on average."""
    quiet_s: float
    """How long it took until nothing was under way any more."""
    diary: Diary | None = None
    """The episodes that were written meanwhile."""

    @property
    def breaks(self) -> list[str]:
        """What must not be."""
        lost = [f"{self.lost} accepted tasks are not in the ledger"] if self.lost else []
        diary = [] if self.diary is None else self.diary.breaks
        return lost + diary + ([] if self.report.ok else str(self.report).splitlines())

    def __str__(self) -> str:
        states = ", ".join(f"{number} {state}" for state, number in self.states.most_common())
        return f"{states}; attempts a task {self.attempts:.2f}; quiet after {self.quiet_s:.1f} s"


async def audit(
    urls: Urls,
    accepted: set[str],
    *,
    histories: Sequence[Path] = (),
    effects: Path | None = None,
    history_lost: bool = False,
    diary: Diary | None = None,
) -> Audit:
    """Hold ledger, bus, histories and side effects against one another once all is quiet.

    With `history_lost` the public history was destroyed on purpose, so what it lacks is no news.
    """
    sources = Sources(urls.postgres, urls.nats, list(histories), [effects] if effects else [])
    began = time.monotonic()
    report = await verify(sources, wait_s=0.0 if history_lost else QUIET_WITHIN_S)
    if history_lost:
        await _until_quiet(sources, report)
    quiet_s = time.monotonic() - began
    rows = await asyncio.to_thread(_read, urls.postgres, sorted(accepted))
    states = Counter(state for _, state, _ in rows)
    attempts = sum(attempt for *_, attempt in rows) / max(1, len(rows))
    return Audit(report, states, len(accepted) - len(rows), attempts, quiet_s, diary)


async def _until_quiet(sources: Sources, report: Report) -> None:
    """Look again until only the history is incomplete, and leave that out of the report."""
    until = time.monotonic() + QUIET_WITHIN_S
    while True:
        rest = [one for one in report.violations if one.invariant not in _OF_THE_HISTORY]
        if not rest or time.monotonic() > until:
            report.violations[:] = rest
            return
        await asyncio.sleep(1)
        report.violations[:] = (await verify(sources)).violations


def _read(postgres_url: str, ids: list[str]) -> list[tuple[str, str, int]]:
    with psycopg.connect(postgres_url) as connection:
        rows = connection.execute(_TASKS, [ids]).fetchall()
    return [(task_id, state, attempt) for task_id, state, attempt in rows]
