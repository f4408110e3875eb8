"""A load generator that does not wait: arrivals follow a clock, whatever the system does.

Latencies count from the moment at which a task was due, so a system that stalls cannot hide it
(no coordinated omission). Nothing that is refused is sent again.

It stands for many clients but shares the machine with the stack, so it is as light as can be:
bodies are written beforehand, and the history holds what may have been accepted, not what was
refused.
"""

import asyncio
import itertools
import time
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

import msgspec
from nats.aio.client import Client as NATS
from nats.aio.msg import Msg

from octarm.clients.orchestrator import MAX_STATES, OrchestratorClient
from octarm.common.bus.requests import ask_raw
from octarm.common.bus.task_history import events_in, events_subject
from octarm.models import hot
from octarm.models.errors import OctarmError
from octarm.models.events import TERMINAL_VERBS
from octarm.models.subjects import COMPLETED, STOPPED, SUBMIT_TASKS
from octarm.verify.history import HistoryWriter, Operation

TENANT: Final = "default"
TICK_S: Final = 0.01
PER_REQUEST: Final = 250
ANSWER_S: Final = 30.0
# Beyond this many unanswered submissions the generator itself would be the bottleneck.
MAX_UNANSWERED: Final = 200_000
PENDING_BYTES: Final = 512 * 1024 * 1024
PROCESS: Final = "load"
_TASK: Final = (
    '{"submission":{"goal":"do nothing","required_capabilities":["noop"],'
    '"context":{"n":%d},"idempotency_key":"load-@-%d"}}'
)
_answers = msgspec.json.Decoder(hot.SubmitAnswers).decode


@cache
def _body(count: int) -> bytes:
    """Write a request of so many tasks; `@` stands for the request's number."""
    tasks = ",".join(_TASK % (place, place) for place in range(count))
    return f'{{"tenant":"{TENANT}","submissions":[{tasks}]}}'.encode()


@dataclass(slots=True)
class Counts:
    """What became of the arrivals; times in milliseconds after each was due."""

    due: int = 0
    unsent: int = 0
    accepted: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    accept_ms: "array[float]" = field(default_factory=lambda: array("f"))
    end_ms: "array[float]" = field(default_factory=lambda: array("f"))


class OpenLoop:
    """Offers tasks at a rate and follows every accepted one to its end."""

    def __init__(self, nc: NATS, history: HistoryWriter) -> None:
        self.counts = Counts()
        self._nc = nc
        self._history = history
        self._clock = asyncio.get_running_loop().time
        self._numbers = itertools.count()
        self._unanswered = 0
        self._open: dict[str, float] = {}
        self._early: dict[str, tuple[str, float]] = {}
        self._sending: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen for ends; before the first arrival."""
        for what in (COMPLETED, STOPPED):
            await self._nc.subscribe(
                events_subject(TENANT, what=what),
                cb=self._heard,
                pending_msgs_limit=0,
                pending_bytes_limit=PENDING_BYTES,
            )
        await self._nc.flush()

    async def offer(self, rate: Callable[[float], float], seconds: float) -> None:
        """Let `rate(elapsed)` tasks a second arrive for so long."""
        began = last = self._clock()
        owed = 0.0
        while (now := self._clock()) < began + seconds:
            owed += rate(now - began) * (now - last)
            number = int(owed)
            owed -= number
            self._arrive([last + (now - last) * (i + 1) / number for i in range(number)])
            last = now
            await asyncio.sleep(TICK_S)

    async def drained(self, timeout_s: float) -> float:
        """Wait until all that was accepted has ended; gives the seconds that took.

        Raises:
            TimeoutError: some are still open after `timeout_s` seconds.
        """
        began = self._clock()
        async with asyncio.timeout(timeout_s):
            while self._sending or self._open:
                before = len(self._open)
                await asyncio.sleep(0.1)
                if len(self._open) == before and before:
                    await self._ask(list(self._open)[:MAX_STATES])
        return self._clock() - began

    @property
    def open(self) -> int:
        """How many accepted tasks have not ended."""
        return len(self._open)

    @property
    def waiting(self) -> int:
        """How many arrivals have neither ended nor been refused."""
        counts = self.counts
        gone = counts.unsent + counts.refused.total() + counts.ended.total()
        return counts.due - gone

    def _arrive(self, dues: Sequence[float]) -> None:
        self.counts.due += len(dues)
        for first in range(0, len(dues), PER_REQUEST):
            group = dues[first : first + PER_REQUEST]
            if self._unanswered + len(group) > MAX_UNANSWERED:
                self.counts.unsent += len(group)
                continue
            self._unanswered += len(group)
            sending = asyncio.create_task(self._send(group))
            self._sending.add(sending)
            sending.add_done_callback(self._sending.discard)

    async def _send(self, dues: Sequence[float]) -> None:
        number, invoked = next(self._numbers), time.monotonic_ns()
        body = _body(len(dues)).replace(b"@", b"%d" % number)
        try:
            data = await ask_raw(self._nc, SUBMIT_TASKS.at(), body, timeout_s=ANSWER_S)
        except OctarmError as error:
            self.counts.refused[error.code] += len(dues)
            # Perhaps they were accepted: without an answer nobody knows.
            self._note(number, invoked, [{}] * len(dues), None)
            return
        finally:
            self._unanswered -= len(dues)
        if data.startswith(b'{"problem":'):
            self.counts.refused[msgspec.json.decode(data)["problem"]["code"]] += len(dues)
            return
        self._answered(number, invoked, dues, _answers(data[len(b'{"ok":') : -1]).answers)

    def _answered(
        self, number: int, invoked: int, dues: Sequence[float], answers: list[hot.SubmitAnswer]
    ) -> None:
        now = self._clock()
        values: list[dict[str, Any]] = []
        for answer, due in zip(answers, dues, strict=True):
            if answer.accepted is None:
                self.counts.refused[(answer.problem or {}).get("code", "INTERNAL")] += 1
                values.append({})
                continue
            task_id = answer.accepted.task_id
            values.append({"task_id": task_id, "created": answer.accepted.created})
            self.counts.accepted += 1
            self.counts.accept_ms.append((now - due) * 1000)
            early = self._early.pop(task_id, None)
            if early is not None:
                self._ended(early[0], early[1] - due)
            else:
                self._open[task_id] = due
        self._note(number, invoked, values, time.monotonic_ns())

    def _note(
        self, number: int, invoked: int, values: list[dict[str, Any]], complete: int | None
    ) -> None:
        self._history.write_all(
            [
                Operation(
                    *(PROCESS, "submit", invoked, complete),
                    args={"tenant": TENANT, "key": f"load-{number}-{place}"},
                    outcome="ok" if value else "unknown",
                    value=value,
                )
                for place, value in enumerate(values)
                if value or complete is None
            ]
        )

    async def _heard(self, msg: Msg) -> None:
        now = self._clock()
        for event in events_in(msg.data):
            if event.verb not in TERMINAL_VERBS:
                continue
            due = self._open.pop(event.task_id, None)
            if due is None:
                self._early[event.task_id] = (event.verb, now)
            else:
                self._ended(event.verb, now - due)

    def _ended(self, verb: str, took_s: float) -> None:
        self.counts.ended[verb] += 1
        self.counts.end_ms.append(took_s * 1000)

    async def _ask(self, task_ids: list[str]) -> None:
        """Ask about tasks whose end may have been missed."""
        found = await OrchestratorClient(self._nc).states(TENANT, task_ids)
        now = self._clock()
        for task_id, outcome in found.items():
            if outcome.state.is_terminal and (due := self._open.pop(task_id, None)) is not None:
                self._ended(outcome.state.value, now - due)


def quantile(values: "array[float]", share: float) -> float:
    """Give the value below which `share` of them lie; 0 when there are none."""
    ordered = sorted(values)
    return round(ordered[min(int(len(ordered) * share), len(ordered) - 1)], 1) if ordered else 0.0


def told(counts: Counts, seconds: float) -> dict[str, Any]:
    """Give the figures of a run that offered for `seconds`."""
    refused = sum(counts.refused.values())
    return {
        "offered_per_s": round(counts.due / seconds, 1),
        "accepted": counts.accepted,
        "refused": dict(counts.refused),
        "refused_share": round(refused / max(counts.due, 1), 4),
        "not_sent_by_the_generator": counts.unsent,
        "ended": dict(counts.ended),
        "accept_p50_ms": quantile(counts.accept_ms, 0.5),
        "accept_p99_ms": quantile(counts.accept_ms, 0.99),
        "end_p50_ms": quantile(counts.end_ms, 0.5),
        "end_p99_ms": quantile(counts.end_ms, 0.99),
        "end_max_ms": quantile(counts.end_ms, 1.0),
    }
