"""News of attempts as the rows of statements."""

from typing import Any, Final

import msgspec

from octarm.common.storage.arrays import Bools, Float8s, Int4s, Int8s, Texts, Timestamps
from octarm.ledger.domain.news import AttemptNews
from octarm.ledger.domain.tasks import without_nul

MOVE_COLUMNS: Final = (
    *(Texts, Int4s, Texts, Texts, Int4s, Bools, Bools, Float8s, Int8s, Timestamps, Texts),
)
ATTEMPT_COLUMNS: Final = (
    *(Texts, Int4s, Texts, Texts, Timestamps, Timestamps, Texts, Texts, Texts),
    *(Int8s, Int8s, Int8s),
)


def move_row(news: AttemptNews, delay_s: float) -> tuple[Any, ...]:
    """Give the columns of `MOVE_COLUMNS`; a negative `delay_s` says that there is no retry."""
    result = news.result
    ok = result is not None and (
        result.status == "success" or (result.status == "partial" and not result.retryable)
    )
    error = bytes(result.error).decode() if result is not None and not ok else None
    return (
        news.task_id,
        news.attempt,
        news.arm_id,
        news.instance_id,
        int(news.step),
        ok,
        bool(result is not None and result.retryable and delay_s >= 0),
        max(0.0, delay_s),
        news.placement.dispatch_seq if news.placement else None,
        news.started_at,
        error,
    )


def attempt_row(news: AttemptNews) -> tuple[Any, ...]:
    """Give the columns of `ATTEMPT_COLUMNS`."""
    result, placement = news.result, news.placement
    return (
        news.task_id,
        news.attempt,
        news.arm_id,
        news.instance_id,
        placement.placed_at if placement else None,
        news.started_at,
        result.status if result else None,
        without_nul(_reason(news)) or None,
        news.decision,
        result.tokens_used if result else 0,
        round(result.cost_dollars * 1_000_000) if result else 0,
        result.llm_calls if result else 0,
    )


def _reason(news: AttemptNews) -> str:
    if news.result is None or news.result.status == "success":
        return ""
    return _error_text(bytes(news.result.error))


class _Error(msgspec.Struct):
    code: str = "INTERNAL"
    detail: str = ""


def _error_text(body: bytes) -> str:
    problem = msgspec.json.decode(body, type=_Error)
    return f"{problem.code}: {problem.detail}"[:500]
