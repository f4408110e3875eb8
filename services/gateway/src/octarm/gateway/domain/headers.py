"""What request headers are believed. A value arrives as the list of all its occurrences."""

import re
from typing import Final

from octarm.models.errors import FieldError, InvalidRequest
from octarm.models.ids import CORRELATION_PATTERN

MAX_SEQUENCE: Final = 2**63 - 1
_CORRELATION: Final = re.compile(CORRELATION_PATTERN)
_IDEMPOTENCY: Final = re.compile(r"[\x20-\x7e]{1,128}")
_SEQUENCE: Final = re.compile(r"[0-9]{1,19}")
_BEARER: Final = re.compile(r"bearer +(\S+) *", re.IGNORECASE)


def correlation_id(values: list[str]) -> str | None:
    """Give the client's correlation id, None when it sent none that we accept."""
    if len(values) == 1 and _CORRELATION.fullmatch(values[0]):
        return values[0]
    return None


def idempotency_key(values: list[str]) -> str | None:
    """Give the Idempotency-Key, None when there is none.

    Raises:
        InvalidRequest: it is empty, too long, not printable ASCII, or given twice.
    """
    if not values:
        return None
    if len(values) > 1 or not _IDEMPOTENCY.fullmatch(values[0]) or values[0].isspace():
        raise _refused("Idempotency-Key", "one value of 1 – 128 printable ASCII characters")
    return values[0]


def last_event_id(values: list[str]) -> int:
    """Give the stream sequence to resume after, 0 for the beginning.

    Raises:
        InvalidRequest: it is not an id that the events endpoint gave.
    """
    text = values[-1].strip() if values else ""
    if not text:
        return 0
    if not _SEQUENCE.fullmatch(text) or int(text) > MAX_SEQUENCE:
        raise _refused("Last-Event-ID", "the id of an event of this stream")
    return int(text)


def credential(authorization: list[str], api_key: list[str]) -> str | None:
    """Give the key of `Authorization: Bearer …`, else of `X-API-Key`; None for neither."""
    if authorization:
        found = _BEARER.fullmatch(authorization[0]) if len(authorization) == 1 else None
        return found[1] if found else None
    return api_key[0] if len(api_key) == 1 else None


def _refused(header: str, expected: str) -> InvalidRequest:
    message = f"must be {expected}"
    return InvalidRequest(
        f"{header} {message}",
        f"Send {header} as {expected}, or leave it out.",
        "INVALID_PARAMETER",
        errors=[FieldError(field=header, message=message)],
    )
