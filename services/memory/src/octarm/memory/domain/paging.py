"""Cursors: where the next page begins, bound to the question that they continue.

A cursor is opaque, not secret: it holds the last id of a page and a digest over it and the
question. One that was changed, or is sent with another tenant or filter, is refused.
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from octarm.models.errors import FieldError, Unparsable

DIGEST_BYTES: Final = 9
PREFIX: Final = "epi_"


@dataclass(frozen=True, slots=True)
class Question:
    """What a list is asked for, without its page."""

    tenant: str
    arm_id: str | None = None
    task_id: str | None = None
    tag: str | None = None
    since: datetime | None = None
    until: datetime | None = None


def cursor_after(question: Question, episode_id: str) -> str:
    """Give the cursor of the page that begins after `episode_id`."""
    name = episode_id.removeprefix(PREFIX).encode()
    return base64.urlsafe_b64encode(_digest(question, name) + name).decode().rstrip("=")


def read_cursor(question: Question, cursor: str) -> str | None:
    """Give the id after which the page begins; None for an empty cursor: from the start.

    Raises:
        Unparsable: not a cursor that this question gave (400, INVALID_PARAMETER).
    """
    if not cursor:
        return None
    try:
        data = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise _refused() from error
    digest, name = data[:DIGEST_BYTES], data[DIGEST_BYTES:]
    if not name or digest != _digest(question, name):
        raise _refused()
    return PREFIX + name.decode()


def _digest(question: Question, name: bytes) -> bytes:
    times = (when.isoformat() if when else "" for when in (question.since, question.until))
    filters = (question.arm_id or "", question.task_id or "", question.tag or "", *times)
    whole = "\n".join((question.tenant, *filters)).encode() + b"\n" + name
    return hashlib.sha256(whole).digest()[:DIGEST_BYTES]


def _refused() -> Unparsable:
    return Unparsable(
        "cursor: not one that this list gave",
        "Begin without a cursor, and send each cursor with the filters it came with.",
        "INVALID_PARAMETER",
        errors=[FieldError(field="cursor", message="not one that this list gave")],
    )
