"""Spans of what the ledger decides: what ended, what is tried again, what became ready."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import blake2b
from typing import Any, Final

from msgspec import structs

from octarm.common.bus.publisher import Outgoing
from octarm.common.telemetry import tracing
from octarm.common.telemetry.traceparents import below
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

    The span begins now and ends when what is told of it is written; both are committed together.
    `senders` has the traceparents of those who reported it, by task; `cause` is the kind of error,
    when it was the ledger itself that decided. A task that ends badly has a span whether it is
    sampled or not.
    """
    began_ns = time.time_ns()
    from_whom = senders or {}

    def spanned(change: Moved, ended_ns: int) -> Moved:
        if change.new is TaskState.COMPLETED and name == FINISH and change.proof is None:
            return _completed(change, from_whom, began_ns, ended_ns)
        again = change.new in _TAKEN_BACK and change.old not in (TaskState.WAITING, change.new)
        if not (change.new.is_terminal or again):
            return change
        error = change.new.value if change.new in _BAD_ENDINGS else cause if again else ""
        if not (error or tracing.is_sampled(change.traceparent)):
            return change
        sender = _sender(change, from_whom)
        own = _record(RETRY if again else name, change, began_ns, error=error, sender=sender)
        return change if again else structs.replace(change, traceparent=own)

    def with_spans(moved: list[Moved]) -> list[Outgoing]:
        ended_ns = time.time_ns()
        return announce([spanned(change, ended_ns) for change in moved])

    return with_spans


def _completed(change: Moved, senders: Mapping[str, str], began_ns: int, ended_ns: int) -> Moved:
    """Trace the end of most tasks."""
    if not tracing.is_sampled(change.traceparent):
        return change
    parent = _sender(change, senders) or change.traceparent
    own, common = tracing.child(parent), (change.attempt, change.new.value)
    tracing.passed(tracing.Hop(FINISH, parent, own, began_ns, ended_ns, change.task_id, common))
    return structs.replace(change, traceparent=own)


def _sender(change: Moved, senders: Mapping[str, str]) -> str:
    """Give the traceparent of who reported it; one of another trace is no word about this task."""
    sender = senders.get(change.task_id, "")
    return sender if tracing.is_same(sender, change.traceparent) else ""


def _record(name: str, change: Moved, began_ns: int, *, error: str, sender: str) -> str:
    is_retry = name == RETRY
    own = _retry_of(change.task_id, change.attempt) if is_retry else ""
    proof: dict[str, Any] = {} if change.proof is None else {"proof": change.proof}
    return tracing.record(
        name,
        # What is tried again hangs below the task, and is linked to the attempt that failed.
        change.traceparent if is_retry else sender or change.traceparent,
        began_ns,
        span_id=own,
        error=error,
        links=(sender,) if is_retry and tracing.is_sampled(sender) else (),
        task_id=change.task_id,
        attempt=change.attempt,
        state=change.new.value,
        **proof,
    )


def woke(task: Woken) -> Woken:
    """Let a sampled task that became ready continue from a span.

    It is linked to what the task waited for: others, and the retry that took back the attempt
    before this one.
    """
    moved = task.moved
    own = tracing.record(
        WAKE,
        moved.traceparent,
        time.time_ns(),
        links=(*task.after, *_taken_back(moved)),
        task_id=moved.task_id,
        attempt=moved.attempt,
    )
    return replace(task, moved=structs.replace(moved, traceparent=own))


def _taken_back(moved: Moved) -> tuple[str, ...]:
    if moved.attempt <= 1:
        return ()
    retry = _retry_of(moved.task_id, moved.attempt - 1)
    return (below(moved.traceparent, retry, sampled=True),)


def _retry_of(task_id: str, attempt: int) -> str:
    """Give the id of the span that took an attempt back: whoever wakes the next one knows it."""
    return blake2b(f"{task_id}:{attempt}".encode(), digest_size=8).hexdigest()
