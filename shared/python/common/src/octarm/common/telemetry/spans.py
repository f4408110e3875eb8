"""Spans as they were measured, and how their attributes are shown."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Final

import msgspec

from octarm.common.redaction import redact
from octarm.common.telemetry import conventions
from octarm.common.telemetry.conventions import Attribute
from octarm.common.telemetry.traceparents import is_sampled, span_id

MOST_TEXT: Final = 500
MOST_ERROR: Final = 100
INT64: Final = range(-(2**63), 2**63)
REMEMBERED: Final = 4096
# Different in every span: remembering them would only push out what recurs.
UNIQUE: Final = frozenset({"task_id", "waited_s"})


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
        found = dict([shown(name, value) for name, value in self.attributes.items()])
        if self.error:
            found[conventions.ERROR_TYPE] = _encodable(self.error[:MOST_ERROR])
        if not self.is_sampled:
            found[conventions.SAMPLED] = False
        return found

    @property
    def is_sampled(self) -> bool:
        """Whether its trace is; else it is told for its error alone."""
        return is_sampled(self.parent)


class Hop(msgspec.Struct, frozen=True, gc=False):
    """A step of a sampled task that went well, as most spans are; kept and written fast.

    `parent` and `own` are well-formed traceparents of one trace. `common` has the values of what
    its name's step `says`, each always of the same type: spans that are alike in them share what
    is written of them.
    """

    name: str
    parent: str
    own: str
    start_ns: int
    end_ns: int
    task_id: str
    common: tuple[Attribute, ...]
    waited_s: float | None = None

    def finished(self) -> Finished:
        """Give it as any other span."""
        says = conventions.step(self.name).says
        about = dict(zip(says, self.common, strict=True)) | {"task_id": self.task_id}
        if self.waited_s is not None:
            about["waited_s"] = self.waited_s
        own = span_id(self.own)
        return Finished(self.name, self.parent, own, self.start_ns, self.end_ns, about)


def finished(spans: Sequence[Finished | Hop]) -> list[Finished]:
    """Give all of them in the one form, in their order."""
    return [span.finished() if isinstance(span, Hop) else span for span in spans]


def shown(name: str, value: Attribute) -> tuple[str, Attribute]:
    """Give an attribute as conventions call it, without secrets."""
    known = conventions.NAMES.get(name)
    if isinstance(value, float) or (isinstance(value, int) and value in INT64):
        return known or name, value
    if known is not None:
        return known, _encodable(str(value))
    return conventions.FREE_TEXT.get(name, name), _redacted(str(value)[:MOST_TEXT])


@lru_cache(1024)
def _redacted(text: str) -> str:
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
        self._again = lru_cache(REMEMBERED, typed=True)(self._once)

    def __call__(self, span: Finished) -> bytes:
        """Write what not all spans of its name have."""
        if span.error or not span.is_sampled or span.name not in conventions.STEPS:
            # Names that others chose may collide, and be many.
            return self.all(span.own())
        return self.of(span.attributes)

    def of(self, attributes: Mapping[str, Attribute]) -> bytes:
        """Write attributes of a step that conventions know."""
        once, again = self._once, self._again
        return b"".join(
            [
                once(name, value) if name in UNIQUE else again(name, value)
                for name, value in attributes.items()
            ]
        )

    def all(self, attributes: Mapping[str, Attribute]) -> bytes:
        """Write attributes that have their names already."""
        return b"".join([self._spell(name, value) for name, value in attributes.items()])

    def _once(self, name: str, value: Attribute) -> bytes:
        return self._spell(*shown(name, value))
