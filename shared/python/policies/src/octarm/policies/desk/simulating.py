"""Simulations that people ask for: the policies by their names, the tasks from the record."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final, Protocol, cast

import msgspec
from pydantic import JsonValue

from octarm.models.errors import InvalidRequest, PayloadTooLarge
from octarm.models.policies import PolicySimulated, PolicyVersion, SimulatePolicy
from octarm.policies.book import Book
from octarm.policies.builtin import BUILTIN
from octarm.policies.desk.examining import Turns
from octarm.policies.simulation.host import simulate
from octarm.policies.simulation.work import Candidate, Work
from octarm.policies.simulator.outcome import Outcome
from octarm.policies.versions import digest

LIVE: Final = "live"
WINDOW: Final = timedelta(hours=1)
MAX_ANSWER: Final = 900_000


class Sources(Protocol):
    """Where versions are kept."""

    async def book(self) -> Book:
        """Give what is kept now."""
        ...

    async def source(self, digest: str) -> PolicyVersion:
        """Give a version with its source."""
        ...


class Record(Protocol):
    """What was decided in the past."""

    async def lines(
        self, since: datetime, until: datetime, tenant: str | None
    ) -> tuple[str, int, bool]:
        """Give JSON lines as the simulator reads them, the number of tasks, whether more are left.

        No lines when nothing was recorded.
        """
        ...


class Simulate:
    """Run policies in virtual time, one simulation at a time."""

    def __init__(
        self, sources: Sources, record: Record, now: Callable[[], datetime], *, platform: str
    ) -> None:
        """Take what to ask; `platform` names the built-in policy that decides without another."""
        self._sources = sources
        self._record = record
        self._now = now
        self._platform = platform
        self._turns = Turns(1, 2)

    async def __call__(self, wanted: SimulatePolicy) -> PolicySimulated:
        """Simulate.

        Raises:
            InvalidRequest: there is nothing to simulate, or it is none.
            NotFound, Conflict: a ref means no version, or several.
            Backpressure: too many simulations wait.
            TimedOut, PayloadTooLarge: it would take too much.
        """
        candidates = await self._candidates(wanted)
        async with self._turns.turn():
            lines, tasks, cut = await self._lines(wanted)
            work = Work(candidates, load=wanted.load, records=lines, seed=wanted.seed)
            outcomes = await simulate(work)
        return PolicySimulated(outcomes=_plain(outcomes), tasks=tasks, cut=cut)

    async def _candidates(self, wanted: SimulatePolicy) -> tuple[Candidate, ...]:
        found = [await self._candidate(ref) for ref in dict.fromkeys(wanted.refs)]
        if (draft := wanted.draft) is not None:
            name = f"draft@{digest(draft.source, draft.kind)[:8]}"
            found.append(Candidate(name, draft.kind, draft.source))
        if not found:
            raise InvalidRequest("no policy is named", "Name one, or `live`.")
        return tuple(found)

    async def _candidate(self, ref: str) -> Candidate:
        book = await self._sources.book()
        if ref == LIVE:
            if book.live is None:
                return Candidate(self._platform)
            ref = book.live
        elif not any(it.name == ref for it in book.versions.values()):
            # Refs are written with hyphens, the built-in ones as Python names them.
            builtin = ref.replace("-", "_")
            if builtin in BUILTIN:
                return Candidate(builtin)
        version = await self._sources.source(book.find(ref).digest)
        return Candidate(f"{version.name}@{version.digest[:8]}", version.kind, version.source)

    async def _lines(self, wanted: SimulatePolicy) -> tuple[str, int, bool]:
        if wanted.load and wanted.since is None:
            return "", 0, False
        until = wanted.until or self._now()
        since = wanted.since or until - WINDOW
        lines, tasks, cut = await self._record.lines(since, until, wanted.tenant)
        if not lines:
            raise InvalidRequest(
                f"no task was accepted since {since:%Y-%m-%d %H:%M:%S} UTC",
                "Take an earlier time with --since, or give a load with --load.",
                "NOTHING_RECORDED",
            )
        return lines, tasks, cut


def _plain(outcomes: list[Outcome]) -> list[dict[str, JsonValue]]:
    plain = cast(list[dict[str, JsonValue]], msgspec.to_builtins(outcomes))
    if len(msgspec.json.encode(plain)) > MAX_ANSWER:
        raise PayloadTooLarge("the figures do not fit one message", "Simulate fewer policies.")
    return plain
