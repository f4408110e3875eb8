"""W3C trace contexts as text: what a task carries of its trace."""

import re
from typing import Final

CHARS: Final = 55
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
    return traceparent[3:35]
