"""Spans of what the ledger decides: what ended, what is tried again, what became ready."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from msgspec import structs

from octarm.common.bus.publisher import Outgoing
from octarm.common.telemetry import tracing
from octarm.ledger.domain.changes import Announce, Moved, Woken
from octarm.models.states import TaskState

FINISH: Final = "orchestrator.finish"
RETRY: Final = "orchestrator.retry"
RECONCILE: Final = "orchestrator.reconcile"
CANCEL: Final = "orchestrator.cancel"
REJECT: Final = "orchestrator.reject"
WAKE: Final = "orchestrator.wake"
_BAD_ENDINGS: Final = (TaskState.FAILED, TaskState.TIMED_OUT)
_TAKEN_BACK: Final = (TaskState.QUEUED, TaskState.WAITING)


def traced(
    announce: Callable[[list[Moved]], list[Outgoing]],
    name: str,
    *,
    senders: Mapping[str, str] | None = None,
    cause: str = "",
) -> Announce:
    """Let the events of sampled tasks continue from a span of the decision that moved them.

    The span begins now and ends with the commit. `senders` has the traceparents of those who
    reported it, by task; `cause` is the kind of error, when it was the ledger itself that decided.
    A task that ends badly has a span whether it is sampled or not.
    """
    began_ns = time.time_ns()
    from_whom = senders or {}

    def spanned(change: Moved) -> Moved:
        again = change.new in _TAKEN_BACK and change.old not in (TaskState.WAITING, change.new)
        if not (change.new.is_terminal or again):
            return change
        error = change.new.value if change.new in _BAD_ENDINGS else cause if again else ""
        if not (error or tracing.is_sampled(change.traceparent)):
            return change
        sender = from_whom.get(change.task_id, "")
        own = _record(RETRY if again else name, change, began_ns, error=error, sender=sender)
        return change if again else structs.replace(change, traceparent=own)

    def with_spans(moved: list[Moved]) -> list[Outgoing]:
        return announce([spanned(change) for change in moved])

    return with_spans


def _record(name: str, change: Moved, began_ns: int, *, error: str, sender: str) -> str:
    is_retry = name == RETRY
    proof: dict[str, Any] = {} if change.proof is None else {"proof": change.proof}
    return tracing.record(
        name,
        # What is tried again hangs below the task, and is linked to the attempt that failed.
        change.traceparent if is_retry else sender or change.traceparent,
        began_ns,
        error=error,
        links=(sender,) if is_retry and tracing.is_sampled(sender) else (),
        task_id=change.task_id,
        attempt=change.attempt,
        state=change.new.value,
        **proof,
    )


def woke(task: Woken) -> Woken:
    """Let a sampled task that became ready continue from a span, linked to what it waited for."""
    own = tracing.record(
        WAKE,
        task.moved.traceparent,
        time.time_ns(),
        links=task.after,
        task_id=task.moved.task_id,
        attempt=task.moved.attempt,
    )
    return replace(task, moved=structs.replace(task.moved, traceparent=own))
