"""Numbers, times and texts that mean the same in every message.

Numbers are taken as numbers only: neither "1" nor true is one. Every integer fits 53 bits, so
that JavaScript and doubles keep it exactly.
"""

import re
from typing import Annotated, Final

from pydantic import AwareDatetime, BeforeValidator, Field, StringConstraints

MAX_INT: Final = 2**53
MAX_SLOTS: Final = 10_000
MAX_ATTEMPT: Final = 2**31 - 1
MAX_DOLLARS: Final = 1e9
MIN_DOLLARS: Final = 1e-6

_RFC3339: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:?\d\d)", re.ASCII
)


def _written_out(value: object) -> object:
    """Refuse what would be guessed at: Unix times, and dates without a time or a zone."""
    if isinstance(value, int | float) or (
        isinstance(value, str) and _RFC3339.fullmatch(value) is None
    ):
        raise ValueError("must be a time with its zone as in RFC 3339")
    return value


Instant = Annotated[AwareDatetime, BeforeValidator(_written_out)]
Attempt = Annotated[int, Field(strict=True, ge=1, le=MAX_ATTEMPT)]
Count = Annotated[int, Field(strict=True, ge=0, le=MAX_INT)]
Slots = Annotated[int, Field(strict=True, ge=1, le=MAX_SLOTS)]
Share = Annotated[float, Field(strict=True, ge=0, le=1)]
Dollars = Annotated[float, Field(strict=True, ge=0, le=MAX_DOLLARS)]
Flag = Annotated[bool, Field(strict=True)]
# What Postgres cannot store is not text.
Stored = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]
