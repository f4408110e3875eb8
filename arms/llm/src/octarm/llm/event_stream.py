"""Read the server-sent events of a chat completion, trusting nothing in them."""

from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec

from octarm.models.errors import OctarmError, Unavailable

MAX_LINE_BYTES: Final = 256 * 1024
MAX_STREAM_BYTES: Final = 16 * 1024 * 1024


class TokenCounts(msgspec.Struct, frozen=True):
    """The `usage` object of the protocol."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


class Delta(msgspec.Struct, frozen=True):
    """What a choice adds to the answer."""

    content: str | None = None


class Choice(msgspec.Struct, frozen=True):
    """One alternative; only the first is asked for."""

    delta: Delta = Delta()
    finish_reason: str | None = None


class Event(msgspec.Struct, frozen=True):
    """One event of the stream."""

    choices: list[Choice] = []
    usage: TokenCounts | None = None
    model: str | None = None
    error: Any = None


def broken(reason: str) -> OctarmError:
    """Make the error for a stream that cannot be understood."""
    return Unavailable(
        f"the provider's stream is broken: {reason}", "Try again.", "DEPENDENCY_FAILURE"
    )


async def events(body: AsyncIterator[bytes]) -> AsyncIterator[Event]:
    """Yield the events up to the end marker.

    Raises:
        Unavailable: it ends without the marker, is not JSON, or passes a size limit.
    """
    async for line in _lines(body):
        if not line.startswith(b"data:"):
            continue  # comments, keep-alives, event names
        data = line[5:].strip()
        if data == b"[DONE]":
            return
        try:
            event = msgspec.json.decode(data, type=Event)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise broken(f"an event is not what the protocol says ({error})") from None
        if event.error is not None:
            raise broken(f"it reports {str(event.error)[:300]}")
        yield event
    raise broken("it ended early")


async def _lines(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    rest, seen = b"", 0
    async for block in body:
        seen += len(block)
        *lines, rest = (rest + block).split(b"\n")
        if seen > MAX_STREAM_BYTES or len(rest) > MAX_LINE_BYTES:
            raise broken("it is larger than an answer can be")
        for line in lines:
            yield line
