"""What can be found, and the form of a rule that finds it."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, get_args

Kind = Literal[
    "PRIVATE_KEY",
    "API_KEY",
    "TOKEN",
    "PASSWORD",
    "EMAIL",
    "CREDIT_CARD",
    "IBAN",
    "PHONE",
    "IP_ADDRESS",
]
# Addresses of machines are what a fleet talks about; whoever must hide them asks for it.
DEFAULT_KINDS: Final[frozenset[Kind]] = frozenset(get_args(Kind)) - {"IP_ADDRESS"}


class Finding(NamedTuple):
    """What was found, and where: characters `start` to before `end`."""

    kind: Kind
    start: int
    end: int


def _whole(match: "re.Match[str]") -> tuple[int, int] | None:
    return match.span()


@dataclass(frozen=True, slots=True)
class Rule:
    """A shape, and what decides whether one that has it is meant.

    Patterns keep two promises, for linear time: what repeats is bounded or possessive, and a
    long run of characters is entered at its beginning only.
    """

    kind: Kind
    pattern: "re.Pattern[str]"
    # Gives the span to replace; None when it is something else after all.
    span: Callable[["re.Match[str]"], tuple[int, int] | None] = _whole

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Give what to replace, from left to right."""
        place = 0
        while match := self.pattern.search(text, place):
            span = self.span(match)
            if span is None:
                place = match.start() + 1
                continue
            yield span
            place = max(span[1], match.start() + 1)


def group(name: str) -> Callable[["re.Match[str]"], tuple[int, int] | None]:
    """Take one group of the match only, so that one sees what stood there."""
    return lambda match: match.span(name)
