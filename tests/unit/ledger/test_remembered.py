"""What a process knows of tasks because it accepted them itself."""

from octarm.ledger.storage.remembered import Remembered
from tests.support.ledger import a_failure, a_new_task, a_result, news


def test_gives_the_transitions_of_successes_once() -> None:
    remembered, task = Remembered(), a_new_task(goal="count")
    remembered.add([task])
    told = news(a_result(task.task_id))

    (moved,) = remembered.completed(told)

    assert (moved.task_id, moved.tenant, moved.goal) == (task.task_id, "default", "count")
    assert (moved.old, moved.new, moved.first_seq, moved.last_seq) == ("queued", "completed", 3, 5)
    assert remembered.completed(told) == []


def test_gives_all_or_none() -> None:
    remembered, task, other = Remembered(), a_new_task(), a_new_task()
    remembered.add([task])

    assert remembered.completed(news(a_result(task.task_id), a_result(other.task_id))) == []
    assert remembered.completed(news(a_result(task.task_id))) == []


def test_gives_nothing_of_what_failed_or_has_cost_something() -> None:
    tasks = [a_new_task() for _ in range(3)]
    first, second, third = (task.task_id for task in tasks)
    for body in (a_failure(first), a_result(second, tokens_used=3), a_result(third, attempt=2)):
        remembered = Remembered()
        remembered.add(tasks)
        assert remembered.completed(news(body)) == []


def test_remembers_the_newest() -> None:
    remembered, tasks = Remembered(most=2), [a_new_task() for _ in range(3)]
    for task in tasks:
        remembered.add([task])

    found = [bool(remembered.completed(news(a_result(task.task_id)))) for task in tasks]

    assert found == [False, True, True]
