"""What a handler is given besides its task: attempt, cancellation, reports, spend, memory."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Generator
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol, TypeVar

from octarm.common.failpoints import failpoint
from octarm.common.telemetry import get_logger, tracing
from octarm.models.contracts import TaskContract
from octarm.sdk.inbox import Command
from octarm.sdk.recall import Recall
from octarm.sdk.spending import Budget, Call, Left, Spending, Spent, limit_of

T = TypeVar("T")
CHUNK_CHARS: Final = 65_536
MESSAGE_CHARS: Final = 1000


def _readable(text: str) -> str:
    """Replace what no UTF-8 can say (names of files may hold it): it would spoil its message."""
    return text.encode("utf-8", "replace").decode()


class Immediate:
    """Something already done: awaiting it is allowed, and returns at once."""

    __slots__ = ()

    def __await__(self) -> Generator[None, None, None]:
        yield from ()


DONE: Final = Immediate()


class Reports(Protocol):
    """Where a context's progress and chunks go; called on the event loop only."""

    def progress(self, task_id: str, attempt: int, fraction: float, message: str) -> None:
        """Report how far an attempt is."""
        ...

    def chunk(self, task_id: str, attempt: int, seq: int, text: str) -> None:
        """Send a piece of output to whoever watches."""
        ...

    def spent(self, task_id: str, attempt: int, call: Call) -> None:
        """Report what a call has cost."""
        ...

    def throttled(self, retry_after_s: float) -> None:
        """Report that the provider wants no requests for a while."""
        ...


class Context:
    """One attempt at one task, as its handler sees it.

    `progress`, `emit` and `spend` take effect when called and may be awaited or not, so that
    a sync handler (in its thread) calls them the same way. Once the attempt is settled
    (finished, cancelled, timed out) they do nothing.
    """

    __slots__ = (
        "_began",
        "_cancel_event",
        "_cancelled",
        "_chunks",
        "_log",
        "_loop",
        "_recall",
        "_reports",
        "_settled",
        "_spending",
        "_thread",
        "arm_id",
        "attempt",
        "cancel_reason",
        "instance_id",
        "task",
        "traceparent",
    )

    def __init__(
        self,
        task: TaskContract,
        command: Command,
        *,
        arm_id: str,
        instance_id: str,
        reports: Reports,
        recall: Recall,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.task = task
        self.attempt = command.attempt
        self.arm_id = arm_id
        self.instance_id = instance_id
        self.traceparent = command.traceparent
        self.cancel_reason = ""
        self._reports = reports
        self._recall = recall
        self._loop = loop
        self._thread = threading.get_ident()
        self._spending = Spending(limit_of(task))
        self._began = time.perf_counter()
        self._cancelled = False
        self._cancel_event: asyncio.Event | None = None
        self._chunks = 0
        self._settled = False
        self._log: Any = None

    @property
    def cancelled(self) -> bool:
        """Whether somebody called the attempt off: stop soon, it is cut off after 5 seconds."""
        return self._cancelled

    async def wait_cancelled(self) -> None:
        """Return once the attempt is called off; from async handlers."""
        if self._cancel_event is None:
            self._cancel_event = asyncio.Event()
        if self._cancelled:
            return
        await self._cancel_event.wait()

    def progress(self, fraction: float, message: str = "") -> Immediate:
        """Say how far the attempt is: 0 to 1, and what it does (≤ 1,000 characters).

        At most two a second travel; of more, the last one counts.
        """
        fraction = min(1.0, max(0.0, float(fraction)))
        self._on_loop(self._progress, fraction, _readable(message[:MESSAGE_CHARS]))
        return DONE

    def emit(self, text: str) -> Immediate:
        """Stream a piece of output to whoever watches now; it is not kept."""
        for start in range(0, len(text), CHUNK_CHARS):
            self._on_loop(self._emit, _readable(text[start : start + CHUNK_CHARS]))
        return DONE

    def spend(
        self,
        *,
        tokens: int = 0,
        cost_dollars: float = 0.0,
        llm_calls: int = 0,
        call_no: int | None = None,
    ) -> Immediate:
        """Book what was used; the same `call_no` counts once, none is always a new call.

        The ledger is told within milliseconds: what was paid for stays paid for when the arm
        dies, and also when the attempt has been settled meanwhile.

        Raises:
            BudgetExceeded: the attempt is now over its budget; what was booked stays booked.
        """
        amount = Spent(tokens=tokens, cost_dollars=cost_dollars, llm_calls=llm_calls)
        call = self._spending.book(amount, call_no)
        if call is not None:
            self._on_loop(self._reports.spent, self.task.task_id, self.attempt, call)
        failpoint("spend_booked")
        if call is not None:
            self._spending.check()
        return DONE

    def throttled(self, retry_after_s: float) -> Immediate:
        """Say that the provider behind this arm answered 429 and wants nothing for that long.

        The fleet is told at once: until then no task is placed on any arm that names the same
        provider in its labels (`provider`, `credential`, `model`), or on this arm if it names none.
        """
        if retry_after_s > 0:
            self._on_loop(self._reports.throttled, float(retry_after_s))
        return DONE

    @property
    def spent(self) -> Spent:
        """What has been booked so far."""
        return self._spending.total

    @property
    def left(self) -> Left:
        """What the budget still allows."""
        return self._spending.left(self._elapsed_ms())

    @property
    def budget(self) -> Budget:
        """What the attempt may use, has used, and may still use.

        Of a task that was tried before, or that has children or a budget above it, this is what
        the ledger had left for it when the attempt became ready.
        """
        return self._spending.budget(self._elapsed_ms())

    @property
    def time_limit_s(self) -> float | None:
        """Seconds that the budget allows the attempt from its start; None is no limit."""
        limit_ms = self._spending.limit.time_ms
        return None if limit_ms is None else limit_ms / 1000

    def idempotency_key(self, call_no: int) -> str:
        """Give the key for the attempt's external call number `call_no`.

        The same in every attempt, so that a retried attempt repeats the call and not its effect.
        """
        return f"{self.task.task_id}:{call_no}"

    @property
    def log(self) -> Any:
        """A structlog logger bound to the task and the attempt."""
        if self._log is None:
            task_id, attempt, arm_id = self.task.task_id, self.attempt, self.arm_id
            log = get_logger().bind(task_id=task_id, attempt=attempt, arm_id=arm_id)
            self._log = log.bind(traceparent=self.traceparent)
        return self._log

    def span(self, name: str, **attributes: Any) -> AbstractContextManager[tracing.Span]:
        """Trace a part of the work; nothing happens when the task is not sampled."""
        return tracing.span(name, parent=self.traceparent, **attributes)

    @property
    def memory(self) -> Recall:
        """What this arm remembers of the tenant's earlier tasks."""
        return self._recall

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the arm's event loop and give its result; from sync handlers.

        Raises:
            RuntimeError: called on the event loop itself, where it would wait for ever.
        """
        if threading.get_ident() == self._thread:
            coroutine.close()
            raise RuntimeError("ctx.wait() is for sync handlers; await the coroutine instead")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def call_off(self, reason: str) -> None:
        """Set `cancelled`; the arm calls this."""
        self._cancelled = True
        self.cancel_reason = reason
        if self._cancel_event is not None:
            self._cancel_event.set()

    def settle(self) -> None:
        """Let nothing out any more; the arm calls this."""
        self._settled = True

    def _elapsed_ms(self) -> int:
        return int((time.perf_counter() - self._began) * 1000)

    def _on_loop(self, report: Callable[..., None], *arguments: Any) -> None:
        if threading.get_ident() == self._thread:
            report(*arguments)
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(report, *arguments)

    def _progress(self, fraction: float, message: str) -> None:
        if not self._settled:
            self._reports.progress(self.task.task_id, self.attempt, fraction, message)

    def _emit(self, text: str) -> None:
        if not (self._settled or self._cancelled):
            seq, self._chunks = self._chunks, self._chunks + 1
            self._reports.chunk(self.task.task_id, self.attempt, seq, text)
