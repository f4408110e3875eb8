"""The view of what waits: timers, calling off, lazy deletion."""

from datetime import timedelta

import pytest

from octarm.common.testing.fakes import NOON
from octarm.scheduler.domain import queue as queue_module
from octarm.scheduler.domain.heaps import LazyHeap
from octarm.scheduler.domain.queue import OVERDUE_AFTER_S
from octarm.scheduler.domain.tasks import Hold
from tests.support.scheduling import NOON_S, a_queue, an_empty_queue, ready, task_id, waiting


class TestTimers:
    def test_batch_work_counts_as_interactive_after_five_minutes(self) -> None:
        queue = a_queue(ready(1, tier="batch"), ready(2))

        assert queue.next_timer() == NOON_S + 300
        assert queue.promote(NOON_S + 299) == 0
        assert queue.promote(NOON_S + 300) == 1

        assert queue.depth() == {"interactive": 2, "batch": 0}
        assert queue.next_timer() is None

    def test_what_is_promoted_can_still_leave(self) -> None:
        queue = a_queue(ready(1, tier="batch"))
        queue.promote(NOON_S + 300)

        queue.call_off(task_id(1), 1)

        assert len(queue) == 0
        assert queue.depth() == {"interactive": 0, "batch": 0}

    def test_a_task_long_past_its_deadline_is_dropped(self) -> None:
        late = ready(1, deadline=NOON + timedelta(seconds=5))
        queue = a_queue(late, ready(2, deadline=NOON + timedelta(seconds=9)))

        given_up = NOON_S + OVERDUE_AFTER_S + 5
        assert queue.next_timer() == given_up
        assert queue.drop_overdue(given_up - 1) == []
        assert [task.task_id for task in queue.drop_overdue(given_up)] == [task_id(1)]
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


class TestPartlyDone:
    def test_gives_what_waits_of_messages_that_are_done_in_part(self) -> None:
        queue, hold = an_empty_queue(), Hold(7, 3, lambda: None)
        tasks = [waiting(ready(number), hold) for number in range(3)]
        for task in tasks:
            queue.add(task)
        queue.add(waiting(ready(9)))
        assert queue.partly_done() == {}

        queue.remove(tasks[0])
        hold.task_done()

        assert queue.partly_done() == {hold: tasks[1:]}


class TestHold:
    def test_is_settled_with_its_last_task(self) -> None:
        settled: list[int] = []
        hold = Hold(1, 2, lambda: settled.append(1))

        assert not hold.task_done()
        assert not settled
        assert hold.task_done()
        assert settled == [1]


class TestLazyHeap:
    def test_is_rebuilt_when_the_dead_outnumber_the_living(self) -> None:
        heap = LazyHeap()
        tasks = [waiting(ready(number)) for number in range(200)]
        for task in tasks:
            task.heap = heap
            heap.push(task.queued_at, task)

        for task in tasks[1:]:
            task.heap = None
            heap.forget()

        assert heap.live == 1
        assert len(heap._items) <= 2 * heap.live + 64
        assert heap.head() == (tasks[0].queued_at, tasks[0])

    def test_skips_what_has_left(self) -> None:
        heap = LazyHeap()
        task = waiting(ready())
        heap.push(0.0, task)

        assert heap.head() is None
        assert heap.pop_until(1.0) == []

    def test_iterates_over_what_waits(self) -> None:
        assert [task.task_id for task in a_queue(ready(1), ready(2))] == [task_id(1), task_id(2)]
