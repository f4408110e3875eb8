"""Tracing by W3C trace context: a span per hop of sampled tasks, and every error.

A task carries its `traceparent` as text. What is not sampled costs one look at its last two
characters; nothing else is made. An error is exported all the same, below the span that would
have been its parent, up to `MOST_ERRORS_PER_S`.
"""

import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Final

from opentelemetry.trace import SpanKind

from octarm.common.telemetry import conventions, traceparents
from octarm.common.telemetry.conventions import Attribute
from octarm.common.telemetry.exporters import EVERY_S, OTLP_EVERY_S, Outbox, exporter_for
from octarm.common.telemetry.spans import Finished, Hop
from octarm.common.telemetry.traceparents import below, is_same, is_sampled, span_id, valid
from octarm.models.errors import OctarmError

__all__ = [
    "Hop",
    "Span",
    "child",
    "is_same",
    "is_sampled",
    "passed",
    "record",
    "root",
    "sample",
    "setup_tracing",
    "shutdown",
    "span",
    "span_id",
    "valid",
]

# A fleet in which everything fails must not be slowed down by telling of it.
MOST_ERRORS_PER_S: Final = 50
IDS_AT_ONCE: Final = 256


class Allowance:
    """How much more may be done in this second."""

    def __init__(self, per_s: int) -> None:
        self._per_s = per_s
        self._second = -1
        self._taken = 0

    def take(self, now_s: float) -> bool:
        """Tell whether one more may be, at a monotonic time in seconds."""
        if int(now_s) != self._second:
            self._second, self._taken = int(now_s), 0
        self._taken += 1
        return self._taken <= self._per_s


class _Tracing:
    outbox: Outbox | None = None
    sample: float = 0.0
    errors = Allowance(MOST_ERRORS_PER_S)


_state = _Tracing()


def setup_tracing(service: str, export: str, *, sample: float, instance: str = "") -> None:
    """Choose where spans go: `none`, `console`, `file:<folder>` or `otlp:<url>`.

    Raises:
        ValueError: `export` is none of these.
    """
    shutdown()
    _state.sample = sample
    exporter = exporter_for(service, export, instance=instance)
    every_s = OTLP_EVERY_S if export.startswith("otlp") else EVERY_S
    _state.outbox = None if exporter is None else Outbox(exporter, every_s)


def sample(share: float) -> None:
    """Record this share of the traces that begin here from now on."""
    _state.sample = share


def shutdown() -> None:
    """Export what is left; at most a few seconds."""
    if _state.outbox is not None:
        _state.outbox.close()
        _state.outbox = None


# An id of zeros is no id (W3C Trace Context §3.2.2.3); this sets a bit in each of the two.
_NOT_ZERO: Final = 1 << 64 | 1


def root(sample: float | None = None) -> str:
    """Begin a trace; sampled with probability `sample` (default: the process's setting)."""
    share = _state.sample if sample is None else sample
    flag = 1 if random.random() < share else 0  # noqa: S311 - ids of traces are no secrets
    ids = f"{random.getrandbits(192) | _NOT_ZERO:048x}"
    return f"00-{ids[:32]}-{ids[32:]}-0{flag}"


class Span:
    """A span under way; `traceparent` is what the next hop gets. Set `error` to its kind."""

    __slots__ = ("_attributes", "_began_ns", "_name", "_parent", "error", "links", "traceparent")

    def __init__(
        self, name: str, parent: str, attributes: dict[str, Attribute], *, start_ns: int = 0
    ) -> None:
        self.error = ""
        self.links: tuple[str, ...] = ()
        self.traceparent = parent
        self._name, self._parent, self._attributes = name, parent, attributes
        self._began_ns = start_ns
        if _state.outbox is not None:
            self._began_ns = start_ns or time.time_ns()
            if is_sampled(parent) and valid(parent):
                self.traceparent = below(parent, _next_id(), sampled=True)

    def put(self, **attributes: Attribute) -> None:
        """Add what is known only now."""
        self._attributes.update(attributes)

    def failed(self, error: BaseException) -> None:
        """Say what ended it; a server's span is not in error when the client is (HTTP's rule)."""
        is_server = conventions.step(self._name).kind is SpanKind.SERVER
        if is_server and isinstance(error, OctarmError):
            self.put(status=error.status)
            if error.status < HTTPStatus.INTERNAL_SERVER_ERROR:
                return
        self.error = self.error or type(error).__name__

    def end(self, end_ns: int | None = None) -> None:
        """Export it; of what is not sampled, only an error."""
        outbox, own = _state.outbox, self.traceparent
        if outbox is None:
            return
        if own is self._parent:
            if not self._is_told():
                return
            own = below(own, _next_id(), sampled=False)
        outbox.put(
            Finished(
                self._name,
                self._parent,
                traceparents.span_id(own),
                self._began_ns,
                end_ns or time.time_ns(),
                self._attributes,
                self.error,
                self.links,
            )
        )

    def _is_told(self) -> bool:
        """Whether it is exported though its trace is not sampled."""
        is_known = bool(self.error) and valid(self._parent) and not is_sampled(self._parent)
        return is_known and _state.errors.take(time.monotonic())


def _ids() -> Iterator[str]:
    """Give ids of spans; asking the system for one each would cost more than the span."""
    while True:
        block = os.urandom(8 * IDS_AT_ONCE).hex()
        for start in range(0, len(block), 16):
            yield block[start : start + 16]


_next_id: Final = _ids().__next__


def child(parent: str) -> str:
    """Give the traceparent of a span that is to hang below a sampled, well-formed one.

    It is `parent` where this process exports nothing.
    """
    return parent if _state.outbox is None else f"{parent[:36]}{_next_id()}-01"


def passed(hop: Hop) -> None:
    """Export a step that went well."""
    if _state.outbox is not None:
        _state.outbox.put(hop)


def record(
    name: str,
    parent: str,
    start_ns: int,
    end_ns: int | None = None,
    *,
    error: str = "",
    links: tuple[str, ...] = (),
    span_id: str = "",
    **attributes: Attribute,
) -> str:
    """Export a finished span below `parent` and give its own traceparent.

    Times are Unix nanoseconds; `error` is the kind of error, from a bounded set; `links` are
    traceparents of what led to it besides its parent; `span_id` is given where others have to
    know it without being told. Gives `parent` back when the trace is not
    sampled or this process exports nothing.
    """
    outbox, sampled = _state.outbox, is_sampled(parent)
    if outbox is None or not (error or sampled):
        return parent
    if sampled and valid(parent):
        own = span_id or _next_id()
        end_ns = end_ns or time.time_ns()
        outbox.put(Finished(name, parent, own, start_ns, end_ns, attributes, error, links))
        return below(parent, own, sampled=True)
    span = Span(name, parent, attributes, start_ns=start_ns)
    span.error, span.links = error, links
    span.end(end_ns)
    return span.traceparent


@contextmanager
def span(name: str, parent: str, **attributes: Attribute) -> Iterator[Span]:
    """Measure a block below `parent`; costs next to nothing when the trace is not sampled."""
    current = Span(name, parent, attributes)
    try:
        yield current
    except BaseException as error:
        current.failed(error)
        raise
    finally:
        current.end()
