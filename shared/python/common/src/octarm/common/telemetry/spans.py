"""Spans as they were measured, and how their attributes are shown."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final

import msgspec

from octarm.common.redaction import redact
from octarm.common.telemetry import conventions
from octarm.common.telemetry.conventions import Attribute

MOST_TEXT: Final = 500
MOST_ERROR: Final = 100
INT64: Final = range(-(2**63), 2**63)
REMEMBERED: Final = 4096
# Different in every span: remembering them would only push out what recurs.
UNIQUE: Final = frozenset({conventions.NAMES["task_id"], conventions.NAMES["waited_s"]})


class Finished(msgspec.Struct, frozen=True, gc=False):
    """A span as it was measured; times are Unix nanoseconds."""

    name: str
    parent: str
    """The traceparent that it hangs below."""
    span_id: str
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Attribute]
    error: str = ""
    links: tuple[str, ...] = ()
    """Traceparents of what led to it besides its parent."""

    def named(self) -> dict[str, Attribute]:
        """Give its attributes as conventions call them."""
        return {**conventions.step(self.name).attributes, **self.own()}

    def own(self) -> dict[str, Attribute]:
        """Give those that not all spans of its name have; free text is without secrets."""
        found: dict[str, Attribute] = {}
        for name, value in self.attributes.items():
            known = conventions.NAMES.get(name)
            if isinstance(value, float) or (isinstance(value, int) and value in INT64):
                found[known or name] = value
            elif known is not None:
                found[known] = _encodable(str(value))
            else:
                found[conventions.FREE_TEXT.get(name, name)] = _shown(str(value)[:MOST_TEXT])
        if self.error:
            found[conventions.ERROR_TYPE] = _encodable(self.error[:MOST_ERROR])
        if self.parent[-1] != "1":
            found[conventions.SAMPLED] = False
        return found


@lru_cache(1024)
def _shown(text: str) -> str:
    return _encodable(redact(text).text)


def _encodable(text: str) -> str:
    # What no UTF-8 can hold would be in nobody's way but ours.
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def linked(span: Finished) -> tuple[str, ...]:
    """Give the traceparents that it is linked to: its message's, if it reads one, and its own."""
    reads = conventions.step(span.name).reads_messages
    return (span.parent, *span.links) if reads else span.links


class Spelling:
    """Attributes in an exporter's encoding; what recurs is written once."""

    def __init__(self, spell: Callable[[str, Attribute], bytes]) -> None:
        self._spell = spell
        # Typed, as 1, 1.0 and True are equal and not the same.
        self._again = lru_cache(REMEMBERED, typed=True)(spell)

    def __call__(self, attributes: Mapping[str, Attribute]) -> bytes:
        """Write them one after another."""
        return b"".join(
            [
                self._spell(name, value) if name in UNIQUE else self._again(name, value)
                for name, value in attributes.items()
            ]
        )
