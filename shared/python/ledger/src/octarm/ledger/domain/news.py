"""What a batch of messages says about attempts, gathered by (task, attempt).

A placement, a start and a result of the same attempt often arrive in one batch; together they
are one change of the ledger.
"""

from collections.abc import Iterable
from datetime import datetime
from enum import IntEnum

import msgspec

from octarm.models import hot

Key = tuple[str, int]  # task id, attempt

_encode = msgspec.json.Encoder().encode


class Step(IntEnum):
    """How far the news takes an attempt."""

    PLACED = 0
    STARTED = 1
    ENDED = 2


class Placement(msgspec.Struct, frozen=True, gc=False):
    """Where the scheduler sent one attempt, and why; `dispatch_seq` is its bundle's place."""

    task_id: str
    attempt: int
    arm_id: str
    dispatch_seq: int
    placed_at: datetime
    policy: str
    reason: str
    scores: list[hot.Score] = []


class AttemptNews(msgspec.Struct, gc=False):
    """Everything a batch says about one attempt."""

    task_id: str
    attempt: int
    arm_id: str
    instance_id: str | None = None
    placement: Placement | None = None
    started_at: datetime | None = None
    progress: hot.AttemptUpdate | None = None
    result: hot.Result | None = None
    body: bytes = b""
    traceparent: str = ""

    @property
    def key(self) -> Key:
        """The attempt that this is about."""
        return self.task_id, self.attempt

    @property
    def step(self) -> Step:
        """The furthest step told."""
        if self.result is not None:
            return Step.ENDED
        return Step.STARTED if self.started_at is not None else Step.PLACED

    @property
    def decision(self) -> str | None:
        """Why it went to its arm, as JSON text."""
        if self.placement is None:
            return None
        placement = self.placement
        return _encode(_Reasons(placement.policy, placement.reason, placement.scores)).decode()


def is_short(news: AttemptNews) -> bool:
    """Whether it is a success that has used nothing of a budget but time."""
    result = news.result
    return (
        result is not None
        and result.status == "success"
        and not (result.tokens_used or result.cost_dollars or result.llm_calls)
    )


class _Reasons(msgspec.Struct, gc=False):
    policy: str
    reason: str
    scores: list[hot.Score]


class Gathering:
    """Gathers messages into news."""

    def __init__(self) -> None:
        self._news: dict[Key, AttemptNews] = {}
        self._others: dict[tuple[str, int, str], AttemptNews] = {}

    def _of(self, task_id: str, attempt: int, arm_id: str) -> AttemptNews:
        key = (task_id, attempt)
        news = self._news.get(key)
        if news is None:
            news = self._news[key] = AttemptNews(task_id, attempt, arm_id)
        elif news.arm_id != arm_id:
            other = AttemptNews(task_id, attempt, arm_id)
            news = self._others.setdefault((*key, arm_id), other)
        return news

    def placed(self, placements: Iterable[Placement]) -> None:
        """Take in placements."""
        for placement in placements:
            news = self._of(placement.task_id, placement.attempt, placement.arm_id)
            news.placement = placement
            first = self._news[placement.task_id, placement.attempt]
            if first is not news and first.placement is None:
                self._prefer(news, first)

    def updated(self, message: hot.AttemptsUpdated) -> None:
        """Take in starts and progress of one instance."""
        for update in message.updates:
            news = self._of(update.task_id, update.attempt, message.arm_id)
            news.instance_id = message.instance_id
            if update.kind == "started":
                news.started_at = update.at
            else:
                news.progress = update

    def ended(self, result: hot.Result, body: bytes, traceparent: str = "") -> None:
        """Take in a result; `body` is its JSON as it came, `traceparent` its sender's span."""
        news = self._of(result.task_id, result.attempt, result.arm_id)
        if news.result is None:
            news.instance_id = result.instance_id
            news.result, news.body, news.traceparent = result, body, traceparent
            news.started_at = result.started_at or news.started_at

    def _prefer(self, news: AttemptNews, first: AttemptNews) -> None:
        """Let the arm that was chosen speak before one that only claims the attempt."""
        key = news.key
        del self._others[(*key, news.arm_id)]
        self._news[key], self._others[(*key, first.arm_id)] = news, first

    def keys(self) -> list[Key]:
        """Give the attempts that something is said about."""
        return list(self._news)

    def unplaced(self) -> list[Key]:
        """Give the attempts of which nothing says where they were sent."""
        return [key for key, news in self._news.items() if news.placement is None]

    def all(self) -> list[AttemptNews]:
        """Give the news, by task: rows are always locked in this order."""
        return [self._news[key] for key in sorted(self._news)]

    def contested(self) -> list[list[AttemptNews]]:
        """Give what other arms say about the same attempts, to be recorded after `all`, in turn.

        Each list names an attempt once. Normally there is nothing: two arms that report one
        attempt mean that one of them lies.
        """
        turns: list[list[AttemptNews]] = []
        spoken: dict[Key, int] = {}
        for key in sorted(self._others):
            turn = spoken.get(key[:2], 0)
            spoken[key[:2]] = turn + 1
            if turn == len(turns):
                turns.append([])
            turns[turn].append(self._others[key])
        return turns
