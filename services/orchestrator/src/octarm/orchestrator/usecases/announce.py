"""From committed transitions to the events that tell them."""

from functools import lru_cache
from typing import Any, Final

import msgspec

from octarm.common.bus.publisher import Outgoing
from octarm.ledger.domain.changes import Moved
from octarm.ledger.domain.lifecycle import events_to
from octarm.ledger.domain.messages import (
    MAX_EVENT_RESULT_BYTES,
    Told,
    event,
    fields_of,
    history,
    result_for_event,
    story,
)
from octarm.ledger.domain.news import AttemptNews
from octarm.models.errors import Problem
from octarm.models.states import TaskState

UNKNOWN_POLICY: Final = "unknown"
_PLACED: Final = ("arm_id", "policy", "reason")
_STARTED: Final = ("arm_id", "instance_id")

_encode = msgspec.json.Encoder().encode


class Announcement:
    """Makes the events of one transaction's transitions."""

    def __init__(
        self,
        news: list[AttemptNews] | None = None,
        *,
        problem: Problem | None = None,
        reason: str = "",
    ) -> None:
        self._news = {(item.task_id, item.attempt): item for item in news or []}
        self._problem = problem.model_dump_json().encode() if problem else None
        self._reason = reason

    def __call__(self, moved: list[Moved]) -> list[Outgoing]:
        """Give the events, those of a task in the order of their numbers."""
        return history(told for change in moved for told in self._of(change))

    def _of(self, change: Moved) -> list[Told]:
        news = self._news.get((change.task_id, change.attempt))
        if change.old is change.new:
            return [self._same_state(change, news)]
        is_short = change.old is TaskState.QUEUED and change.new is TaskState.COMPLETED
        if is_short and news is not None:
            return _short(change, news)
        verbs = events_to(change.old, change.new, reported=news is not None)
        return [
            self._event(verb, change.first_seq + number, change, news)
            for number, verb in enumerate(verbs)
        ]

    def _same_state(self, change: Moved, news: AttemptNews | None) -> Told:
        if news is not None and news.result is not None:
            fields = {
                "late_attempt": change.attempt,
                "arm_id": news.arm_id,
                "status": news.result.status,
            }
            return _make("late_result", change.first_seq, change, fields)
        update = news.progress if news is not None else None
        fields = {"fraction": update.fraction, "message": update.message} if update else {}
        return _make("progress", change.first_seq, change, fields)

    def _event(self, verb: str, seq: int, change: Moved, news: AttemptNews | None) -> Told:
        if verb == "placed":
            placement = news.placement if news else None
            return _make(
                verb,
                seq,
                change,
                {
                    "arm_id": change.arm_id,
                    "policy": placement.policy if placement else UNKNOWN_POLICY,
                    "reason": placement.reason if placement else "",
                },
            )
        if verb == "started":
            return _make(
                verb,
                seq,
                change,
                {
                    "arm_id": change.arm_id,
                    "instance_id": change.instance_id or UNKNOWN_POLICY,
                },
            )
        if verb == "retried":
            fields = {"error": self._error(change, news), "not_before": change.not_before}
            return _make(verb, seq, change, fields, attempt=change.attempt + 1)
        return _make(verb, seq, change, self._ending(change, news))

    def _ending(self, change: Moved, news: AttemptNews | None) -> dict[str, Any]:
        fields: dict[str, Any] = {"arm_id": change.arm_id, "goal": change.goal}
        if news is not None and news.body:
            fields |= result_for_event(news.body)
        if change.new is TaskState.CANCELLED:
            fields["reason"] = self._reason if change.reason is None else change.reason
            fields["proof"] = change.proof
        elif change.new is not TaskState.COMPLETED:
            fields["error"] = self._error(change, news)
        return fields

    def _error(self, change: Moved, news: AttemptNews | None) -> msgspec.Raw:
        if change.error:
            return msgspec.Raw(change.error)
        if news is not None and news.result is not None:
            return news.result.error
        assert self._problem is not None
        return msgspec.Raw(self._problem)


def _short(change: Moved, news: AttemptNews) -> list[Told]:
    """Tell of a short attempt: hot, and the same as the general way tells."""
    placement, arm_id = news.placement, change.arm_id
    policy, reason = (placement.policy, placement.reason) if placement else (UNKNOWN_POLICY, "")
    ending = _fields(_PLACED, arm_id)[:-1] + b',"goal":' + _encode(change.goal)
    if len(news.body) <= MAX_EVENT_RESULT_BYTES:
        ending += b',"result":' + news.body
    return story(
        (
            ("placed", _fields(_PLACED, arm_id, policy, reason)),
            ("started", _fields(_STARTED, arm_id, change.instance_id)),
            ("completed", ending + b"}"),
        ),
        task_id=change.task_id,
        tenant=change.tenant,
        first_seq=change.first_seq,
        attempt=change.attempt,
        at=change.at,
        traceparent=change.traceparent,
    )


@lru_cache(1024)
def _fields(names: tuple[str, ...], *values: str | None) -> bytes:
    # The attempts of one commit went to few arms, for few reasons.
    return fields_of(dict(zip(names, values, strict=False)))


def _make(
    verb: str, seq: int, change: Moved, fields: dict[str, Any], *, attempt: int | None = None
) -> Told:
    return event(
        verb,
        task_id=change.task_id,
        tenant=change.tenant,
        seq=seq,
        attempt=change.attempt if attempt is None else attempt,
        at=change.at,
        traceparent=change.traceparent,
        **fields,
    )
