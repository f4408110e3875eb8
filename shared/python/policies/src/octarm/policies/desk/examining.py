"""Sources are tried before they are kept: in children of their own, few at a time."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

from octarm.models.errors import Backpressure, TimedOut
from octarm.models.policies import PolicyKind, PolicyProblem, PolicyValidated
from octarm.policies.problems import Problem
from octarm.policies.sandbox.engine import Engine
from octarm.policies.sandbox.validation import validate

AT_ONCE: Final = 2
MAX_WAITING: Final = 8
WITHIN_S: Final = 15.0
MAX_MESSAGE: Final = 10_000


class Turns:
    """Lets few in at a time, makes some wait, and sends the rest away."""

    def __init__(self, at_once: int, waiting: int) -> None:
        self._permits = asyncio.Semaphore(at_once)
        self._most = at_once + waiting
        self._inside = 0

    @asynccontextmanager
    async def turn(self) -> AsyncGenerator[None, None]:
        """Wait for a turn.

        Raises:
            Backpressure: too many wait.
        """
        if self._inside >= self._most:
            raise Backpressure("too many policies are being tried", code="RATE_LIMITED")
        self._inside += 1
        try:
            async with self._permits:
                yield
        finally:
            self._inside -= 1


class Examiner:
    """Says what is wrong with a source, whatever it does."""

    def __init__(self) -> None:
        self._turns = Turns(AT_ONCE, MAX_WAITING)

    async def __call__(self, source: str, kind: PolicyKind) -> PolicyValidated:
        """Try a source on samples.

        Raises:
            Backpressure: too many are being tried.
            TimedOut: this machine is too busy to say.
        """
        async with self._turns.turn():
            try:
                async with asyncio.timeout(WITHIN_S), Engine(children=1) as engine:
                    loaded = await validate(engine, source, kind)
            except TimeoutError:
                raise TimedOut(f"trying it took more than {WITHIN_S:g} s") from None
        return PolicyValidated(digest=loaded.digest, problems=[_said(it) for it in loaded.problems])


def _said(problem: Problem) -> PolicyProblem:
    return PolicyProblem(
        severity=problem.severity,
        message=problem.message[:MAX_MESSAGE],
        line=problem.line,
        hint=problem.hint[:1000],
    )
