"""Submits tasks in few large requests, again and again until each has its answer."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from octarm.models.errors import OctarmError, TimedOut
from octarm.models.states import TaskState
from octarm.sdk.fates import Fate
from octarm.sdk.submissions import Accepted, Encoded, read_answers, request_body, requests

IN_FLIGHT: Final = 4
REQUEST_TIMEOUT_S: Final = 10.0
FIRST_BACKOFF_S: Final = 0.1
MAX_BACKOFF_S: Final = 5.0
JITTER: Final = 0.25

Answer = Fate | OctarmError
Follow = Callable[[str, TaskState], Fate]
Request = Callable[[bytes, float], Awaitable[bytes]]


class Submitter:
    """Sends submissions of one tenant; `request(body, timeout_s)` gives the reply's bytes.

    `follow(task_id, state)` is called for each accepted task as soon as it is known.
    What is refused for now (nobody answers, backpressure) is sent again, not before the
    answer's retry-after, until the time is up. Idempotency keys make that safe.
    """

    def __init__(
        self,
        tenant: str,
        request: Request,
        follow: Follow,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._chance = chance
        self._tenant = tenant
        self._request = request
        self._follow = follow

    async def submit(self, submissions: Sequence[Encoded], timeout_s: float) -> list[Answer]:
        """Give what became of each submission, in order of the list."""
        until = time.monotonic() + timeout_s
        answers: dict[int, Answer] = {}
        in_flight = asyncio.Semaphore(IN_FLIGHT)

        async def send(group: list[Encoded]) -> None:
            async with in_flight:
                await self._send_until(group, until, answers)

        await asyncio.gather(*(send(group) for group in requests(submissions)))
        return [answers[submission.index] for submission in submissions]

    async def _send_until(
        self, group: list[Encoded], until: float, answers: dict[int, Answer]
    ) -> None:
        backoff_s = FIRST_BACKOFF_S
        while True:
            again: list[Encoded] = []
            pause_s = backoff_s
            for submission, answer in zip(group, await self._send(group, until), strict=True):
                if isinstance(answer, Accepted):
                    answers[submission.index] = self._follow(answer.task_id, answer.state)
                    continue
                answers[submission.index] = answer
                if answer.retryable:
                    again.append(submission)
                    pause_s = max(pause_s, answer.retry_after_s or 0)
            # Spread: those who were refused together should not come again together.
            pause_s *= 1 + JITTER * self._chance()
            if not again or time.monotonic() + pause_s > until:
                return
            group = again
            await asyncio.sleep(pause_s)
            backoff_s = min(MAX_BACKOFF_S, backoff_s * 2)

    async def _send(self, group: list[Encoded], until: float) -> Sequence[Accepted | OctarmError]:
        timeout_s = min(REQUEST_TIMEOUT_S, until - time.monotonic())
        if timeout_s <= 0:
            return [TimedOut("no time was left to submit it")] * len(group)
        try:
            reply = await self._request(request_body(self._tenant, group), timeout_s)
            return read_answers(reply, len(group))
        except OctarmError as error:
            return [error] * len(group)
