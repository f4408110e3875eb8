"""The events of transitions: the short way tells what the general way tells."""

from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec.structs import replace

from octarm.common.bus.task_history import events_in
from octarm.ledger.domain.changes import Moved
from octarm.ledger.domain.news import AttemptNews
from octarm.models.ids import new_id
from octarm.models.states import TaskState
from octarm.orchestrator.usecases.announce import Announcement
from tests.support.ledger import a_result, news, placed

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"


def completed(task_id: str, *, old: TaskState, first_seq: int) -> Moved:
    about = (task_id, "acme", 1, old, TaskState.COMPLETED, first_seq, 5)
    return Moved(*about, TRACE, 'say "é"', NOON, "one", "i-1")


def told(item: AttemptNews, change: Moved) -> list[dict[str, Any]]:
    bodies = [
        msgspec.json.decode(event.body)
        for message in Announcement([item])([change])
        if ".evt.tasks." in message.subject
        for event in events_in(message.payload)
    ]
    return sorted(bodies, key=lambda body: int(body["seq"]))


def ended(task_id: str, **fields: Any) -> AttemptNews:
    (item,) = news(a_result(task_id, **fields))
    return item


def test_the_short_way_tells_what_the_long_way_tells() -> None:
    task_id = new_id("tsk")
    item = ended(task_id)
    item.placement = placed(task_id).placement

    short = told(item, completed(task_id, old=TaskState.QUEUED, first_seq=3))
    way = [
        replace(completed(task_id, old=TaskState.QUEUED, first_seq=3), new=TaskState.DISPATCHED),
        completed(task_id, old=TaskState.DISPATCHED, first_seq=4),
    ]

    assert short == [event for change in way for event in told(item, change)]
    assert [event["type"] for event in short] == ["task.placed", "task.started", "task.completed"]


def test_a_result_that_is_too_large_is_left_out() -> None:
    task_id = new_id("tsk")
    item = ended(task_id, output="x" * 70_000)

    last = told(item, completed(task_id, old=TaskState.QUEUED, first_seq=3))[-1]

    assert last["goal"] == 'say "é"'
    assert "result" not in last


def test_endings_are_told_once_more_together() -> None:
    ids = [new_id("tsk") for _ in range(150)]
    items = [ended(task_id) for task_id in ids]
    moved = [completed(task_id, old=TaskState.QUEUED, first_seq=3) for task_id in ids]

    messages = [m for m in Announcement(items)(moved) if m.subject == "octarm.v1.evt.endings"]

    assert all(len(events_in(message.payload)) <= 64 for message in messages)
    again = [event.task_id for message in messages for event in events_in(message.payload)]
    assert sorted(again) == sorted(ids)
