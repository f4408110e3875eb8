"""When to try again."""

from typing import Final

from octarm.models.contracts import RetryPolicy

DEFAULT: Final = RetryPolicy()


def backoff_s(attempt: int, *, chance: float, policy: RetryPolicy = DEFAULT) -> float:
    """Give the seconds to wait after attempt number `attempt` (from 1) failed.

    Exponential from `initial_seconds`, capped at `max_seconds`, spread evenly by the jitter
    share both ways; `chance` (0 – 1) is the random draw.
    """
    delay = min(policy.max_seconds, policy.initial_seconds * policy.factor ** (attempt - 1))
    return float(delay * (1 + policy.jitter * (2 * chance - 1)))
