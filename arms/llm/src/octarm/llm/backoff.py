"""When to try a provider again: what it asks for, or growing delays."""

import email.utils
import random
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """At most `tries` tries; delays in seconds, doubled each time, ±20 % so that callers spread."""

    tries: int = 4
    initial_s: float = 0.5
    max_s: float = 20.0

    def delay_s(self, tries_made: int, retry_after_s: float | None) -> float | None:
        """Seconds to wait before the next try, or None to give up.

        A wish of the server is never undercut; one longer than `max_s` is for the caller
        to wait out.
        """
        if tries_made >= self.tries or (retry_after_s or 0) > self.max_s:
            return None
        growing = self.initial_s * 2.0 ** (tries_made - 1) * random.uniform(0.8, 1.2)  # noqa: S311
        return max(min(growing, self.max_s), retry_after_s or 0)


def parse_retry_after(value: str | None, *, now: datetime) -> float | None:
    """Read a Retry-After header (RFC 9110 §10.2.3), seconds or a date, as seconds from now."""
    if not value:
        return None
    if value.strip().isascii() and value.strip().isdigit():
        return min(float(value), 86_400)
    try:
        at = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, ((at if at.tzinfo else at.replace(tzinfo=UTC)) - now).total_seconds())
