"""What host and child say to each other: msgpack over a socket pair.

Before each message come its length in four bytes and one byte that is not zero when the child has
grown and would better be replaced.
"""

from typing import Final

import msgspec
from msgspec import Struct

HEADER: Final = 5
# The largest frame of a child: bounded return, bounded output, bounded traceback.
MAX_ANSWER: Final = 1 << 20

# How many compiled policies a child keeps; the one that was loaded first goes first.
MAX_POLICIES: Final = 64


class Load(Struct, frozen=True, tag=True):
    """Compile this source and keep it under its digest."""

    digest: str
    source: str


class Decide(Struct, frozen=True, tag=True):
    """Call the policy of that digest; `context` is JSON."""

    digest: str
    context: str


class Check(Struct, frozen=True, tag=True):
    """Look for calls that must fail, without running anything."""

    source: str


class Loaded(Struct, frozen=True, tag=True):
    """The source is compiled."""


class Returned(Struct, frozen=True, tag=True):
    """The policy's actions as JSON, and what it said; the time is processor time."""

    actions: str
    cpu_ms: float
    lines: tuple[str, ...] = ()
    metrics: tuple[tuple[str, float], ...] = ()
    dropped: int = 0


class Found(Struct, frozen=True, tag=True):
    """Line (None: unknown), message, and whether the call must fail."""

    findings: tuple[tuple[int | None, str, bool], ...]


class Failed(Struct, frozen=True, tag=True):
    """The script failed: why, its traceback, its line, and what it had said by then."""

    reason: str
    text: str
    line: int | None = None
    lines: tuple[str, ...] = ()


Request = Load | Decide | Check
Answer = Loaded | Returned | Found | Failed

_ENCODER: Final = msgspec.msgpack.Encoder()
REQUESTS: Final = msgspec.msgpack.Decoder(Request)
ANSWERS: Final = msgspec.msgpack.Decoder(Answer)


def frame(message: Request | Answer, *, worn: bool = False) -> bytes:
    """Encode a message with its header before it."""
    body = _ENCODER.encode(message)
    return len(body).to_bytes(HEADER - 1, "big") + bytes([worn]) + body


def header(data: bytes) -> tuple[int, bool]:
    """Give the length of the message that follows, and whether the child is worn."""
    return int.from_bytes(data[:-1], "big"), bool(data[-1])
