"""A task's events as a tree of steps: what a trace shows where nothing was exported."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from octarm.cli.events import StreamEvent
from octarm.cli.spans import Span
from octarm.common.telemetry import conventions
from octarm.models.events import TERMINAL_VERBS

# What a task does from each event on; the others change nothing.
STEPS: Final = {
    "accepted": "waiting",
    "ready": "queued",
    "placed": "dispatched",
    "started": "running",
    "validating": "validating",
    "retried": "waiting for the next attempt",
}
# When it did, as those say who did it; an event has the time of the commit that tells of it.
OWN_TIMES: Final = {"placed": "placed_at", "started": "started_at"}
BAD: Final = {"failed", "timed_out", "rejected"}


def steps_of(task: dict[str, Any], events: Iterable[StreamEvent]) -> list[Span]:
    """Give a tree in the order of time: the task, its attempts, below each what it did by turns.

    The last step of a task that goes on lasts until its latest event.
    """
    story = _Story(task)
    for event in events:
        story.tell(event)
    return story.spans()


class _Story:
    def __init__(self, task: dict[str, Any]) -> None:
        self._begin = ns_of(task.get("created_at"))
        self._last = self._begin
        self._ending = ""
        self._attempts = {int(it["attempt"]): it for it in task.get("attempts") or ()}
        self._steps: list[tuple[int, str, int, str]] = []

    def tell(self, event: StreamEvent) -> None:
        """Take in one event, in their order."""
        at, verb = ns_of(event.data.get("occurred_at")), event.kind.removeprefix("task.")
        if not at:
            return
        self._last = max(self._last, at)
        if verb in TERMINAL_VERBS:
            self._ending = verb
        elif verb in STEPS:
            attempt, arm = int(event.data.get("attempt") or 1), str(event.data.get("arm_id") or "")
            own = self._attempts.get(attempt, {}).get(OWN_TIMES.get(verb, ""))
            # Clocks of two machines may differ by more than a step takes.
            begin = max(ns_of(own) or at, self._steps[-1][2] if self._steps else 0)
            self._steps.append((attempt, STEPS[verb], begin, arm))

    def spans(self) -> list[Span]:
        """Draw what was told."""
        ends = [at for _, _, at, _ in self._steps[1:]] + [self._last]
        found = [self._span("task", "task", "", self._begin, self._last)]
        found[0].attributes[conventions.NAMES["state"]] = self._ending
        for number, ((attempt, name, at, arm), end) in enumerate(
            zip(self._steps, ends, strict=True)
        ):
            if name == "waiting" and end <= at:
                continue
            found.append(self._span(str(number), name, f"attempt-{attempt}", at, end))
            if arm:
                found[-1].attributes[conventions.NAMES["arm_id"]] = arm
        for attempt in sorted({each[0] for each in self._steps}):
            found.append(self._attempt(attempt, found))
        return sorted(found, key=lambda span: (span.start_ns, -span.end_ns))

    def _attempt(self, number: int, spans: list[Span]) -> Span:
        own = [span for span in spans if span.parent_id == f"attempt-{number}"]
        begin, end = min(span.start_ns for span in own), max(span.end_ns for span in own)
        is_last = number == max(each[0] for each in self._steps)
        is_bad = not is_last or self._ending in BAD
        span = self._span(f"attempt-{number}", f"attempt {number}", "task", begin, end)
        return span if not is_bad else _failed(span)

    def _span(self, span_id: str, name: str, parent: str, *times: int) -> Span:
        begin, end = times
        return Span("", span_id, parent, name, "", begin, max(begin, end))


def _failed(span: Span) -> Span:
    return Span(
        *(span.trace_id, span.span_id, span.parent_id, span.name, span.service),
        *(span.start_ns, span.end_ns, "ERROR"),
    )


def ns_of(when: Any) -> int:
    """Read a time as nanoseconds since the epoch; 0 when it is none."""
    try:
        return int(datetime.fromisoformat(str(when)).timestamp() * 1e9)
    except ValueError:
        return 0
