"""Times as people write them: ago, or a moment."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from octarm.models.errors import InvalidRequest

_AGO: Final = re.compile(r"(\d{1,6})([smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def moment(text: str, option: str) -> str:
    """Read `2h` as the time two hours ago, else a time as in ISO 8601; empty stays empty.

    Raises:
        InvalidRequest: it is neither.
    """
    if not text:
        return ""
    if ago := _AGO.fullmatch(text):
        past = timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        return (datetime.now(UTC) - past).isoformat()
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidRequest(
            f"{option} {text!r} is no time", "Write 90m, 2h, 7d, or 2026-11-21T08:00:00Z."
        ) from None
    return (found if found.tzinfo else found.astimezone()).isoformat()
