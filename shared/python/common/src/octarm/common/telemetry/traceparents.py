"""W3C trace contexts as text: what a task carries of its trace."""

import re
from typing import Final

CHARS: Final = 55
TRACE_ID: Final = slice(3, 35)
SPAN_ID: Final = slice(36, 52)
_is_traceparent: Final = re.compile(
    r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
).fullmatch


def valid(traceparent: str) -> bool:
    """Tell whether a text from outside is a W3C traceparent of version 00."""
    return _is_traceparent(traceparent) is not None


def is_sampled(traceparent: str) -> bool:
    """Tell whether spans of this trace are wanted."""
    return traceparent.endswith("1") and len(traceparent) == CHARS


def trace_id(traceparent: str) -> str:
    """Give the id of the trace, as 32 hexadecimal digits."""
    return traceparent[TRACE_ID]


def span_id(traceparent: str) -> str:
    """Give the id of the span that it names, as 16 hexadecimal digits."""
    return traceparent[SPAN_ID]


def is_same(one: str, other: str) -> bool:
    """Tell whether two are of the same trace."""
    return one[: SPAN_ID.start] == other[: SPAN_ID.start]


def below(parent: str, span_id: str, *, sampled: bool) -> str:
    """Give the traceparent of a span of the same trace."""
    return f"{parent[:36]}{span_id}-0{sampled:d}"


def link(traceparent: str, own: str) -> str:
    """Name a span for a span of the trace `own`: its id, of another trace `trace_id-span_id`."""
    return traceparent[36:52] if traceparent[:36] == own[:36] else traceparent[3:52]
