"""The view of what waits: calling off, messages that are done in part, overdue tasks."""

from datetime import timedelta

import pytest

from octarm.common.testing.fakes import NOON
from octarm.policies.builtin import DEFAULT
from octarm.policies.queue.arms import Arms
from octarm.scheduler.domain import queue as queue_module
from octarm.scheduler.domain import tasks as tasks_module
from octarm.scheduler.domain.queue import OVERDUE_AFTER_S, ShardQueue
from octarm.scheduler.domain.tasks import Hold
from tests.support.scheduling import NOON_S, a_queue, an_empty_queue, ready, task_id, waiting


def test_a_task_long_past_its_deadline_is_dropped() -> None:
    late = ready(1, deadline=NOON + timedelta(seconds=5))
    queue = a_queue(late, ready(2, deadline=NOON + timedelta(seconds=9)))

    given_up = NOON_S + OVERDUE_AFTER_S + 5
    assert queue.next_timer() == given_up
    assert queue.overdue(given_up - 1) == []
    assert [task.task_id for task in queue.overdue(given_up)] == [task_id(1)]
    assert queue.next_timer() == given_up + 4
    assert len(queue) == 1


class TestCallingOff:
    def test_drops_the_attempt_or_an_older_one_but_not_a_newer(self) -> None:
        queue = a_queue(ready(1, attempt=2))

        assert queue.call_off(task_id(1), 1) is None
        called_off = queue.call_off(task_id(1), 2)

        assert called_off is not None
        assert called_off.attempt == 2
        assert queue.get(task_id(1)) is None

    def test_is_remembered_for_what_comes_later(self) -> None:
        queue = an_empty_queue()

        queue.call_off(task_id(1), 2)
        queue.call_off(task_id(1), 1)

        assert queue.ended(task_id(1), 2)
        assert not queue.ended(task_id(1), 3)

    def test_remembers_only_so_much(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(queue_module, "MAX_ENDED", 2)
        queue = an_empty_queue()

        for number in range(3):
            queue.call_off(task_id(number), 1)

        assert [queue.ended(task_id(number), 1) for number in range(3)] == [False, True, True]


def test_gives_what_waits_of_messages_that_are_done_in_part() -> None:
    queue, hold = an_empty_queue(), Hold(7, 3, lambda: None)
    tasks = [waiting(ready(number), hold) for number in range(3)]
    for task in tasks:
        queue.add(task, now=NOON_S)
    queue.add(waiting(ready(9)), now=NOON_S)
    assert queue.partly_done() == {}

    queue.remove(tasks[0])
    hold.task_done()

    assert queue.partly_done() == {hold: tasks[1:]}


def test_a_message_is_settled_with_its_last_task() -> None:
    settled: list[int] = []
    hold = Hold(1, 2, lambda: settled.append(1))

    assert not hold.task_done()
    assert not settled
    assert hold.task_done()
    assert settled == [1]


def test_the_session_is_a_label() -> None:
    labelled = waiting(ready(labels={"session": "s-1"}))

    assert (labelled.session, waiting(ready()).session) == ("s-1", "")


def test_needs_are_shared_and_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks_module, "MOST_NEEDS", 1)

    first, again = waiting(ready(1, needs=["x"])), waiting(ready(2, needs=["x"]))
    waiting(ready(3, needs=["y"]))

    assert first.needs is again.needs
    assert len(tasks_module._needs) == 1


def test_iterates_over_what_waits_by_given_rules() -> None:
    queue = ShardQueue(DEFAULT, Arms(DEFAULT.prefer), rules=a_queue().rules)
    queue.add(waiting(ready(1)), now=NOON_S)

    assert [task.task_id for task in queue] == [task_id(1)]
