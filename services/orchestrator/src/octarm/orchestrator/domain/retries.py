"""When to try again, and when not."""

from typing import Final

import msgspec

from octarm.models.contracts import RetryPolicy

# Where nobody says how often, the task's `budget.max_retries` does (three, unless it says so).
DEFAULT: Final = RetryPolicy(max_attempts=11)
# An arm may ask for a longer pause than any backoff, but not park a task for days.
MAX_HINT_S: Final = 3600.0
NO_MORE: Final = -1.0


class _Hint(msgspec.Struct):
    retry_after_seconds: float | None = None


_hint = msgspec.json.Decoder(_Hint).decode


def backoff_s(attempt: int, *, chance: float, policy: RetryPolicy = DEFAULT) -> float:
    """Give the seconds to wait after attempt number `attempt` (from 1) failed.

    Exponential from `initial_seconds`, capped at `max_seconds`, spread evenly by the jitter
    share both ways; `chance` (0 – 1) is the random draw.
    """
    delay = min(policy.max_seconds, policy.initial_seconds * policy.factor ** (attempt - 1))
    return float(delay * (1 + policy.jitter * (2 * chance - 1)))


def delay_s(attempt: int, *, chance: float, policy: RetryPolicy, error: bytes = b"{}") -> float:
    """Give the seconds to wait after attempt number `attempt` failed, NO_MORE for ever.

    When the failure itself says when to come back, it is not before that, though at most an
    hour ahead.
    """
    if attempt >= policy.max_attempts:
        return NO_MORE
    hint = min(MAX_HINT_S, max(0.0, _hint(error).retry_after_seconds or 0.0))
    return max(hint, backoff_s(attempt, chance=chance, policy=policy))
