"""What is thought of tasks and arms by what ended of late."""

import pytest

from octarm.policies.context import Observed
from octarm.policies.queue.estimates import Estimates, kind_of
from octarm.policies.queue.heard import Heard
from octarm.policies.queue.window import context, window
from tests.support.waiting import NOW, a_queue, a_task, an_arm


def learned(*attempts: tuple[str, str, float, float, bool], most: int = 100) -> Estimates:
    estimates = Estimates(most)
    for arm_id, kind, ms, cost, succeeded in attempts:
        estimates.learn(arm_id, kind, ms, cost, succeeded=succeeded)
    return estimates


def test_a_kind_is_what_tasks_need_in_order() -> None:
    assert kind_of(frozenset({"write", "code"})) == "code write"
    assert kind_of(()) == ""


def test_the_first_attempts_make_a_plain_mean() -> None:
    found = learned(("a", "x", 100, 10, True), ("b", "x", 300, 30, True))

    assert found.anywhere("x") == Observed(200, 20, 1.0, 2)
    assert found.by_arm(["x"], most=9)["a"] == {"x": Observed(100, 10, 1.0, 1)}
    assert found.anywhere("y") is None


def test_an_attempt_that_failed_counts_for_success_only() -> None:
    found = learned(("a", "x", 100, 10, True), ("a", "x", 1, 999, False))

    assert found.anywhere("x") == Observed(100, 10, 0.5, 2)


def test_nothing_is_thought_of_what_has_never_succeeded() -> None:
    assert learned(("a", "x", 100, 10, False)).anywhere("x") is None


def test_what_has_changed_shows_after_some_attempts() -> None:
    estimates = learned(*[("a", "x", 100, 0, True)] * 200)

    for _ in range(60):
        estimates.learn("a", "x", 1000, 0, succeeded=True)

    seen = estimates.anywhere("x")
    assert seen is not None
    assert seen.ms == pytest.approx(1000, rel=0.1)


def test_what_was_not_heard_of_for_longest_is_forgotten() -> None:
    estimates = learned(*[("a", f"k-{n}", 1, 1, True) for n in range(50)], most=20)

    assert estimates.anywhere("k-0") is None
    assert estimates.anywhere("k-49") is not None
    assert sum(map(len, estimates.by_arm(map("k-{}".format, range(50)), most=99).values())) == 10


def test_a_context_shows_at_most_so_many_of_them_the_newest_first() -> None:
    estimates = learned(*[(f"arm-{n}", "x", n, 1, True) for n in range(9)])

    assert list(estimates.by_arm(["x"], most=2)) == ["arm-8", "arm-7"]
    assert estimates.by_arm(["y"], most=2) == {}


def test_tasks_and_arms_of_a_context_carry_what_was_observed() -> None:
    queue = a_queue()
    an_arm(queue.arms, "a", "code", slots=2)
    queue.add(a_task("like", needs="code"), now=NOW)
    queue.add(a_task("said", needs="code", est_s=2.0, est_cost=7), now=NOW)
    queue.add(a_task("unlike"), now=NOW)
    heard = Heard(estimates=learned(("a", "code", 400, 90, True)))

    shown = context(queue, window(queue, NOW), now=NOW, heard=heard)

    tasks = {task.id: (task.est_ms, task.est_cost) for task in shown.queue}
    assert tasks == {"like": (400, 90), "said": (2000, 7), "unlike": (0, 0)}
    assert shown.arms[0].observed == {"code": Observed(400, 90, 1.0, 1)}
